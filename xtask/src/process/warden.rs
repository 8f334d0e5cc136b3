//! Cleans up after a command however it ends.

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;

/// The other process: learns which children there are, and acts when its input ends. That happens
/// on every way on which this process can end, be it an interruption, a panic or a kill.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids=
while read -r what pid; do
    case $what in
    started) pids="$pids $pid" ;;
    ended)
        left=
        for it in $pids; do [ "$it" = "$pid" ] || left="$left $it"; done
        pids=$left
        ;;
    esac
done
[ -z "$pids" ] || kill -KILL $pids
[ "$2" = keep ] || rm -rf -- "$1"
"#;

/// How many names are tried for the folder: others are left over from runs with `--keep`.
const NAMES_MAX: u32 = 100;

/// A temporary folder and the children that work in it. When it is dropped, or when this process
/// ends in any other way, the children are killed and the folder is removed.
pub struct Warden {
    folder: PathBuf,
    shell: Child,
    stdin: RefCell<Option<ChildStdin>>,
}

impl Warden {
    /// Makes the folder and begins to watch.
    pub fn start(purpose: &str, keep: bool) -> Result<Rc<Self>, String> {
        let folder = new_folder(purpose)?;
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "warden"])
            .arg(&folder)
            .arg(if keep { "keep" } else { "remove" })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let mut shell = match shell {
            Ok(shell) => shell,
            Err(error) => {
                // Nothing is in it.
                let _left = fs::remove_dir(&folder);
                return Err(format!(
                    "cannot start sh, which cleans up at the end: {error}"
                ));
            }
        };
        let stdin = RefCell::new(shell.stdin.take());
        Ok(Rc::new(Self {
            folder,
            shell,
            stdin,
        }))
    }

    /// Returns the temporary folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes charge of a child.
    pub fn started(&self, pid: u32) {
        self.tell("started", pid);
    }

    /// Forgets a child whose end was awaited: its number may become another process's.
    pub fn ended(&self, pid: u32) {
        self.tell("ended", pid);
    }

    fn tell(&self, what: &str, pid: u32) {
        if let Some(stdin) = self.stdin.borrow_mut().as_mut() {
            // Without a warden the children are still killed on the usual ways.
            let _gone = stdin.write_all(format!("{what} {pid}\n").as_bytes());
        }
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A failure shows as a folder that stays.
        let _status = self.shell.wait();
    }
}

fn new_folder(purpose: &str) -> Result<PathBuf, String> {
    let pid = std::process::id();
    for number in 0..NAMES_MAX {
        let folder = env::temp_dir().join(format!("eidetica-{purpose}-{pid}-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot create {}: {error}", folder.display())),
        }
    }
    Err(format!(
        "there are {NAMES_MAX} folders of earlier runs in {}; remove some",
        env::temp_dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that ends only when killed: its input stays open.
    fn endless() -> Child {
        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::null());
        cat.spawn().expect("cat is there")
    }

    #[test]
    fn children_are_killed_and_the_folder_goes() {
        let warden = Warden::start("test-warden", false).unwrap();
        let folder = warden.folder().to_owned();
        fs::write(folder.join("file"), "x").unwrap();
        let (mut left, mut ended) = (endless(), endless());
        warden.started(ended.id());
        warden.started(left.id());
        warden.ended(ended.id());
        drop(warden);
        // Waiting closes the child's input, and would let it end well.
        let stdin = left.stdin.take();
        assert!(!left.wait().unwrap().success());
        drop(stdin);
        assert!(ended.wait().unwrap().success());
        assert!(!folder.exists());
    }

    #[test]
    fn the_folder_stays_if_wished() {
        let warden = Warden::start("test-keep", true).unwrap();
        let folder = warden.folder().to_owned();
        drop(warden);
        fs::remove_dir(&folder).unwrap();
    }
}
