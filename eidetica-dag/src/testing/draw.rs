//! Trees drawn as text, so that a test shows what it is about.
//!
//! Time runs from left to right. A name is a run of letters and digits; `-`, `/` and `\` join a
//! child, on the right, to its parents. A name may appear in several places, which saves crossing
//! lines:
//!
//! ```text
//!       C-D
//!      /   \
//! A---B     G     D-X
//!      \   /      F-X
//!       E-F
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::arrival::Arrival;
use crate::entry::Body;
use crate::id::{EntryId, TreeId};
use crate::key::SecretKey;
use crate::memory::MemoryDag;
use crate::set::ArrivalSet;
use crate::testing::shapes::{dag_of, sign_on_top};
use crate::verify::VerifiedEntry;
use crate::view::DagView;
use crate::walk;

type ChooseAuthor<'a> = dyn Fn(&str) -> SecretKey + 'a;
type ChooseBody<'a> = dyn Fn(&str) -> Option<Body> + 'a;

/// A drawing, and how to make a tree of it.
pub struct Drawing<'a> {
    parents: BTreeMap<String, BTreeSet<String>>,
    author: Box<ChooseAuthor<'a>>,
    body: Box<ChooseBody<'a>>,
    order: Vec<String>,
}

/// A drawn tree.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The tree, with every entry of the drawing.
    pub dag: MemoryDag,
    /// In the order of arrival.
    entries: Vec<VerifiedEntry>,
    by_name: BTreeMap<String, EntryId>,
    names: HashMap<EntryId, String>,
}

/// Makes a tree of a drawing: one author, everyone may write, and the name of an entry is its
/// payload.
///
/// # Panics
/// If the drawing is not that of a tree with one root.
pub fn draw(text: &str) -> Drawn {
    Drawing::of(text).draw()
}

/// Makes a tree of a drawing as [`draw`] does, where `author` tells who writes which name.
///
/// # Panics
/// If the drawing is not that of a tree with one root.
pub fn draw_with(text: &str, author: impl Fn(&str) -> SecretKey) -> Drawn {
    Drawing::of(text).author(author).draw()
}

impl<'a> Drawing<'a> {
    /// Reads a drawing.
    ///
    /// # Panics
    /// If a line leads nowhere, or there is not exactly one root.
    pub fn of(text: &str) -> Self {
        let parents = Canvas::of(text).parents();
        let is_root = |(_, parents): &(&String, &BTreeSet<String>)| parents.is_empty();
        let roots: Vec<&String> = parents
            .iter()
            .filter(is_root)
            .map(|(name, _)| name)
            .collect();
        assert!(
            roots.len() == 1,
            "a tree has one root, the drawing has the roots {roots:?}"
        );
        Self {
            parents,
            author: Box::new(|_| super::key(0)),
            body: Box::new(|_| None),
            order: Vec::new(),
        }
    }

    /// Chooses who writes which name.
    #[must_use]
    pub fn author(mut self, author: impl Fn(&str) -> SecretKey + 'a) -> Self {
        self.author = Box::new(author);
        self
    }

    /// Chooses what entries carry; `None` leaves it to the drawing.
    #[must_use]
    pub fn body(mut self, body: impl Fn(&str) -> Option<Body> + 'a) -> Self {
        self.body = Box::new(body);
        self
    }

    /// Chooses the order of arrival of these names. Other entries arrive when one of these needs
    /// them, or at the end; among themselves by name.
    #[must_use]
    pub fn order(mut self, names: &[&str]) -> Self {
        self.order = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Signs and stores every entry.
    ///
    /// # Panics
    /// If an entry cannot be stored.
    pub fn draw(self) -> Drawn {
        let mut entries: Vec<VerifiedEntry> = Vec::new();
        let mut by_name: BTreeMap<String, EntryId> = BTreeMap::new();
        let mut built: HashMap<&str, usize> = HashMap::new();
        let order = self.arrival_order();
        for name in &order {
            let parents = self.parents[*name].iter();
            let parents = parents.map(|parent| &entries[built[parent.as_str()]]);
            let tree = entries
                .first()
                .map(|root| TreeId::from_root(root.get().id()));
            let body = (self.body)(name).unwrap_or_else(|| match tree {
                None => super::open_genesis("drawn"),
                Some(_) => Body::Data(Bytes::copy_from_slice(name.as_bytes())),
            });
            let entry = sign_on_top(tree, parents, &(self.author)(name), 0, body);
            built.insert(name, entries.len());
            by_name.insert((*name).to_owned(), entry.get().id());
            entries.push(entry);
        }
        let names = by_name
            .iter()
            .map(|(name, id)| (*id, name.clone()))
            .collect();
        Drawn {
            dag: dag_of(entries.clone()),
            entries,
            by_name,
            names,
        }
    }

    /// Lists all names, parents first.
    fn arrival_order(&self) -> Vec<&str> {
        let wanted = self.order.iter().chain(self.parents.keys());
        let mut order: Vec<&str> = Vec::new();
        let mut placed: BTreeSet<&str> = BTreeSet::new();
        for name in wanted {
            let (name, _) = self
                .parents
                .get_key_value(name)
                .unwrap_or_else(|| panic!("the drawing has no {name}"));
            // Depth first: an entry is placed once all its parents are.
            let mut path: Vec<&str> = vec![name];
            while let Some(name) = path.last().copied() {
                let parents = self.parents[name].iter().map(String::as_str);
                match parents.into_iter().find(|parent| !placed.contains(parent)) {
                    Some(parent) => {
                        assert!(!path.contains(&parent), "{parent} is its own ancestor");
                        path.push(parent);
                    }
                    None => {
                        path.pop();
                        if placed.insert(name) {
                            order.push(name);
                        }
                    }
                }
            }
        }
        order
    }
}

impl Drawn {
    /// Returns the name of the tree.
    pub fn tree(&self) -> TreeId {
        self.dag.tree()
    }

    /// Returns the id of a name.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn id(&self, name: &str) -> EntryId {
        let id = self.by_name.get(name);
        *id.unwrap_or_else(|| panic!("the drawing has no {name}"))
    }

    /// Returns the ids of several names, in the order given.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn ids(&self, names: &[&str]) -> Vec<EntryId> {
        names.iter().map(|name| self.id(name)).collect()
    }

    /// Returns the number of a name in [`Drawn::dag`].
    ///
    /// # Panics
    /// If there is no such name.
    pub fn arrival(&self, name: &str) -> Arrival {
        let Ok(at) = self.dag.arrival(&self.id(name));
        at.expect("every entry of the drawing is stored")
    }

    /// Returns the numbers of several names in [`Drawn::dag`], in the order given.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn arrivals(&self, names: &[&str]) -> Vec<Arrival> {
        names.iter().map(|name| self.arrival(name)).collect()
    }

    /// Returns the entry of a name.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn entry(&self, name: &str) -> VerifiedEntry {
        self.entries[self.arrival(name).index()].clone()
    }

    /// Returns the entries of several names, in the order given.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn entries(&self, names: &[&str]) -> Vec<VerifiedEntry> {
        names.iter().map(|name| self.entry(name)).collect()
    }

    /// Returns the name of an id.
    ///
    /// # Panics
    /// If the entry is not drawn.
    pub fn name_of(&self, id: &EntryId) -> &str {
        let name = self.names.get(id);
        name.unwrap_or_else(|| panic!("no entry of the drawing: {id:?}"))
    }

    /// Returns the names of several ids in the order given, with spaces between them.
    ///
    /// # Panics
    /// If an entry is not drawn.
    pub fn names_of<'i>(&self, ids: impl IntoIterator<Item = &'i EntryId>) -> String {
        let names: Vec<&str> = ids.into_iter().map(|id| self.name_of(id)).collect();
        names.join(" ")
    }

    /// Returns the names of entries of [`Drawn::dag`] in the order given, with spaces between them.
    ///
    /// # Panics
    /// If a number is not one of the tree's.
    pub fn names_at(&self, numbers: &[Arrival]) -> String {
        let ids = numbers.iter().map(|at| self.id_at(*at));
        let names: Vec<&str> = ids.map(|id| self.name_of(&id)).collect();
        names.join(" ")
    }

    /// Returns the names of a set of entries of [`Drawn::dag`] in the order of names, with spaces
    /// between them.
    ///
    /// # Panics
    /// If a number is not one of the tree's.
    pub fn names(&self, set: &ArrivalSet) -> String {
        let ids = set.iter().map(|at| self.id_at(at));
        let mut names: Vec<&str> = ids.map(|id| self.name_of(&id)).collect();
        names.sort_unstable();
        names.join(" ")
    }

    /// Makes another copy of the tree that has these entries and their ancestors, in the same order
    /// of arrival.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn replica(&self, names: &[&str]) -> MemoryDag {
        let Ok(part) = walk::ancestors(&self.dag, &self.arrivals(names));
        let entries = part.iter().map(|at| self.entries[at.index()].clone());
        let mut replica = MemoryDag::new(self.tree());
        replica.append(entries.collect());
        replica
    }

    fn id_at(&self, at: Arrival) -> EntryId {
        self.entries[at.index()].get().id()
    }
}

/// The characters of a drawing by row and column.
struct Canvas {
    rows: Vec<Vec<char>>,
    /// The lines' characters that lead to a child.
    used: BTreeSet<(usize, usize)>,
}

impl Canvas {
    fn of(text: &str) -> Self {
        let rows: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        for (row, column, found) in cells(&rows) {
            assert!(
                found == ' ' || is_name(found) || "-/\\".contains(found),
                "row {row}, column {column}: {found:?} is no part of a drawing"
            );
        }
        let used = BTreeSet::new();
        Self { rows, used }
    }

    fn at(&self, row: usize, column: usize) -> char {
        let found = self.rows.get(row).and_then(|row| row.get(column));
        found.copied().unwrap_or(' ')
    }

    /// Reads the parents of every name.
    fn parents(mut self) -> BTreeMap<String, BTreeSet<String>> {
        let mut parents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let starts: Vec<(usize, usize)> = cells(&self.rows)
            .filter(|(row, column, found)| {
                is_name(*found) && !(*column > 0 && is_name(self.at(*row, column - 1)))
            })
            .map(|(row, column, _)| (row, column))
            .collect();
        for (row, column) in starts {
            let found = self.parents_of(row, column);
            parents
                .entry(self.name_at(row, column))
                .or_default()
                .extend(found);
        }
        for (row, column, found) in cells(&self.rows) {
            assert!(
                !"-/\\".contains(found) || self.used.contains(&(row, column)),
                "row {row}, column {column}: {found:?} leads to no child"
            );
        }
        parents
    }

    /// Follows the lines that end at the name that starts here.
    fn parents_of(&mut self, row: usize, column: usize) -> BTreeSet<String> {
        let mut parents = BTreeSet::new();
        let mut ahead = self.lines_into(row, column);
        let mut seen = BTreeSet::new();
        while let Some((row, column)) = ahead.pop() {
            if !seen.insert((row, column)) {
                continue;
            }
            let further = match self.at(row, column) {
                '-' => {
                    let mut further = self.lines_into(row, column);
                    if column > 0 && is_name(self.at(row, column - 1)) {
                        further.push((row, column - 1));
                    }
                    further
                }
                '/' => self.joined_by_diagonal(row + 1, column),
                '\\' => row
                    .checked_sub(1)
                    .map_or_else(Vec::new, |above| self.joined_by_diagonal(above, column)),
                _ => {
                    parents.insert(self.name_at(row, column));
                    continue;
                }
            };
            assert!(
                !further.is_empty(),
                "row {row}, column {column}: the line comes from no parent"
            );
            self.used.insert((row, column));
            ahead.extend(further);
        }
        parents
    }

    /// Returns the lines' characters that touch a name or a `-` from the left.
    fn lines_into(&self, row: usize, column: usize) -> Vec<(usize, usize)> {
        let Some(left) = column.checked_sub(1) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if self.at(row, left) == '-' {
            lines.push((row, left));
        }
        if row > 0 && self.at(row - 1, left) == '\\' {
            lines.push((row - 1, left));
        }
        if self.at(row + 1, left) == '/' {
            lines.push((row + 1, left));
        }
        lines
    }

    /// Returns what a diagonal in `column` comes from, in the row that it leads to.
    fn joined_by_diagonal(&self, row: usize, column: usize) -> Vec<(usize, usize)> {
        let origin = column
            .checked_sub(1)
            .filter(|left| self.at(row, *left) != ' ');
        origin.map_or_else(Vec::new, |left| vec![(row, left)])
    }

    /// Returns the name that has a character here.
    fn name_at(&self, row: usize, column: usize) -> String {
        let before = (0..column)
            .rev()
            .take_while(|left| is_name(self.at(row, *left)));
        let start = column - before.count();
        let name = (start..).map(|column| self.at(row, column));
        name.take_while(|found| is_name(*found)).collect()
    }
}

fn is_name(found: char) -> bool {
    found.is_alphanumeric() || found == '_'
}

fn cells(rows: &[Vec<char>]) -> impl Iterator<Item = (usize, usize, char)> + '_ {
    let in_row = |(row, cells): (usize, &Vec<char>)| {
        let cells = cells.clone().into_iter().enumerate();
        cells.map(move |(column, found)| (row, column, found))
    };
    rows.iter().enumerate().flat_map(in_row)
}
