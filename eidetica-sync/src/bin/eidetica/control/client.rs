//! The client: the process that the user started.

use std::env;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use super::{Answer, Order, Request, read, with_short_path, write};
use crate::args::{Command, Input};
use crate::commands::append;
use crate::output::console::{self, Console};
use crate::output::failure::{Context, Failure, Hint, Result, Stop};
use crate::output::out::note;
use crate::output::progress::Progress;
use crate::store::dir::StoreDir;

/// The least time that a server gets to start a command. It does so at once, if it has a place and the
/// machine is not busy.
const BEGIN_WAIT_MIN: Duration = Duration::from_secs(1);

/// How much is read and sent at once in bytes.
const INPUT_BYTES: usize = 256 << 10;

/// Hands the command to the server on this store, and returns its exit code; `None` if no server
/// listens.
pub(crate) fn run(dir: &StoreDir, command: &Command) -> Option<Result<u8>> {
    let stream = with_short_path(&dir.control_socket(), UnixStream::connect).ok()?;
    Some(converse(stream, command, dir.wait().max(BEGIN_WAIT_MIN)))
}

fn converse(mut stream: UnixStream, command: &Command, wait: Duration) -> Result<u8> {
    let input: Option<(Box<dyn Read + Send>, String)> = match command.input() {
        None => None,
        Some(Input::Stdin) => {
            append::announce_terminal(&Console::Own);
            Some((Box::new(io::stdin()), "stdin".to_owned()))
        }
        Some(Input::File(path)) => {
            Some((Box::new(console::open(path)?), path.display().to_string()))
        }
        Some(Input::Environment(name)) => Some((console::variable(name), name.to_owned())),
    };
    let failed = "could not talk to the server on this store";
    let folder =
        env::current_dir().map_or_else(|_| Vec::new(), |it| it.into_os_string().into_vec());
    let request = Request {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        args: env::args_os().skip(1).map(OsStringExt::into_vec).collect(),
        folder,
    };
    let sent = match write(&mut stream, &Order::Run(request)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(Failure::new("the command line is too long")
                .caused_by(error)
                .hint("pass long text to `append` in a file or on stdin")
                .into());
        }
        // A server that ends answers without reading the whole request.
        sent => sent,
    };
    let timeout = stream.set_read_timeout(Some(wait));
    timeout.context(failed)?;
    let mut answer = match (read::<Answer>(&mut stream), sent) {
        (Ok(answer), _) => answer,
        (Err(error), Ok(())) if error.kind() == io::ErrorKind::WouldBlock => {
            let text = format!("the server did not start the command within {wait:?}");
            let busy = "other commands have all its places, or it is suspended";
            return Err(Failure::new(text)
                .caused_by(busy)
                .hint("run the command again later, or wait for longer: `eidetica --wait SECONDS`")
                .into());
        }
        (Err(error), Ok(())) | (Err(_), Err(error)) => {
            return Err(Failure::new(failed)
                .caused_by(error)
                .hint("check that the server still runs, or start it again")
                .into());
        }
    };
    stream.set_read_timeout(None).context(failed)?;
    if let (Some((from, name)), Answer::Begun) = (input, &answer) {
        let to = stream.try_clone().context(failed)?;
        // The thread ends with the process: reading a terminal cannot be interrupted.
        thread::spawn(move || send(from, &name, to));
    }
    let mut progress = None;
    loop {
        match answer {
            Answer::Begun => {}
            Answer::Out(bytes) => print(&bytes).inspect_err(|_| {
                let _is_open = stream.shutdown(Shutdown::Both);
            })?,
            Answer::Note(text) => note(text),
            Answer::Progress { what, done, total } => {
                progress
                    .get_or_insert_with(|| Progress::new(""))
                    .show(what, done, total);
            }
            Answer::ProgressEnd => progress = None,
            Answer::Exit(code) => return Ok(code),
        }
        answer = read(&mut stream)
            .context("the server ended before the command did")
            .hint("check what was stored (`eidetica log`) before you run the command again")?;
    }
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(bytes).and_then(|()| stdout.flush());
    printed.map_err(Stop::from_stdout)
}

/// Sends the whole input.
fn send(mut from: impl Read, name: &str, mut to: UnixStream) {
    let mut chunk = vec![0; INPUT_BYTES];
    loop {
        let order = match from.read(&mut chunk) {
            Ok(0) => Order::InputEnd,
            Ok(n) => Order::Input(chunk[..n].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Order::InputFailed(format!("{name}: {error}")),
        };
        let is_last = !matches!(order, Order::Input(_));
        if write(&mut to, &order).is_err() || is_last {
            return;
        }
    }
}
