//! The server: runs the commands of clients.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use clap::Parser;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{Answer, Order, Request, read, with_short_path};
use crate::args::Args;
use crate::commands::session::Session;
use crate::output::console::Console;
use crate::output::failure::{Failure, Result, Stop};
use crate::output::remote::Remote;
use crate::store::dir::{Opened, StoreDir};

/// How long to wait after a connection could not be accepted: without file descriptors, the next
/// attempt would fail at once.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How many commands run at a time: more than a person starts. Each has two threads. Others wait.
const COMMANDS_MAX: u32 = 16;

/// How long a client may take to send its request.
const REQUEST_WAIT: Duration = Duration::from_secs(10);

/// How long a client may take to read an answer: as long as a person looks at one page of a pager.
/// Meanwhile, the command holds a snapshot of the store.
const ANSWER_WAIT: Duration = Duration::from_secs(60 * 60);

/// How long a stopping server waits for commands that cannot be interrupted.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// How many chunks of input wait for a command: enough to keep it busy, about a megabyte.
const CHUNKS_MAX: usize = 4;

/// Runs the commands of other processes.
pub(crate) struct Control {
    listener: UnixListener,
    socket: PathBuf,
    free: Arc<Semaphore>,
    open: Arc<Open>,
}

/// The open connections by number.
#[derive(Default)]
struct Open(Mutex<BTreeMap<u64, UnixStream>>);

impl Control {
    /// Starts to listen. The store must be open, so that there is no other server.
    pub(crate) fn listen(dir: &StoreDir) -> io::Result<Self> {
        let socket = dir.control_socket();
        // The folder keeps others out: some systems ignore the mode of a socket.
        let folder = dir.create_control_folder()?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        match fs::remove_file(&socket) {
            // A server that was killed leaves its socket.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            listener: with_short_path(&socket, UnixListener::bind)?,
            socket,
            free: Arc::new(Semaphore::new(COMMANDS_MAX as usize)),
            open: Arc::default(),
        })
    }

    /// Runs commands until it is dropped.
    pub(crate) async fn run(&self, dir: &Arc<StoreDir>, opened: &Opened) {
        for number in 0_u64.. {
            // The system keeps the commands that wait, in order of arrival.
            let Ok(permit) = self.free.clone().acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a command");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            };
            let begun = self.begin(number, stream, permit, dir, opened);
            if let Err(error) = begun {
                tracing::warn!(%error, "could not start a command");
            }
        }
    }

    fn begin(
        &self,
        number: u64,
        stream: tokio::net::UnixStream,
        permit: OwnedSemaphorePermit,
        dir: &Arc<StoreDir>,
        opened: &Opened,
    ) -> io::Result<()> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        let guest = Guest::new(number, &stream, self.open.clone(), permit)?;
        let (dir, opened, handle) = (dir.clone(), opened.clone(), Handle::current());
        // A command blocks as it would in its own process, so it gets its own thread.
        thread::Builder::new()
            .name("command".to_owned())
            .spawn(move || {
                let _guest = guest;
                if let Err(error) = serve(stream, dir, opened, &handle) {
                    tracing::debug!(%error, "a client is gone");
                }
            })?;
        Ok(())
    }

    /// Ends all commands, and waits up to [`STOP_WAIT`] for them.
    pub(crate) async fn stop(self) {
        let _is_gone = fs::remove_file(&self.socket);
        drop(self.listener);
        for stream in self.open.lock().values() {
            let _is_closed = stream.shutdown(Shutdown::Both);
        }
        let all_ended = self.free.acquire_many(COMMANDS_MAX);
        if tokio::time::timeout(STOP_WAIT, all_ended).await.is_err() {
            tracing::warn!("a command did not end in time");
        }
    }
}

impl Open {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, UnixStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one connection in the list.
struct Guest {
    number: u64,
    open: Arc<Open>,
    _permit: OwnedSemaphorePermit,
}

impl Guest {
    fn new(
        number: u64,
        stream: &UnixStream,
        open: Arc<Open>,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Self> {
        open.lock().insert(number, stream.try_clone()?);
        Ok(Self {
            number,
            open,
            _permit: permit,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.open.lock().remove(&self.number);
    }
}

/// Runs the command of one connection.
fn serve(
    mut stream: UnixStream,
    dir: Arc<StoreDir>,
    opened: Opened,
    handle: &Handle,
) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_WAIT))?;
    let Order::Run(request) = read(&mut stream)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    stream.set_read_timeout(None)?;
    let (chunks, input) = sync_channel(CHUNKS_MAX);
    let (gone, when_gone) = watch::channel(false);
    let remote = Arc::new(Remote::new(stream.try_clone()?, input, when_gone));
    remote.send(&Answer::Begun)?;
    let mut from = stream.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(move || {
            receive(&mut from, chunks);
            gone.send_replace(true);
        });
        let _farewell = Farewell(&stream);
        let code = run(request, dir, opened, &remote, handle);
        remote.send(&Answer::Exit(code))
    })
}

/// Closes the sending side, even after a panic. The receiving side is read until the client closes
/// it: otherwise the client could lose the last answer.
struct Farewell<'a>(&'a UnixStream);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        let _is_closed = self.0.shutdown(Shutdown::Write);
    }
}

/// Passes on the client's input until the client is gone.
fn receive(from: &mut UnixStream, chunks: SyncSender<io::Result<Vec<u8>>>) {
    let mut chunks = Some(chunks);
    loop {
        let (chunk, is_last) = match read::<Order>(from) {
            Ok(Order::Input(chunk)) => (Ok(chunk), false),
            Ok(Order::InputEnd) => {
                chunks = None;
                continue;
            }
            Ok(Order::InputFailed(text)) => (Err(io::Error::other(text)), false),
            Ok(Order::Run(_)) => (Err(io::ErrorKind::InvalidData.into()), true),
            // Truncated input must not look complete.
            Err(error) => (Err(error), true),
        };
        if let Some(to) = &chunks {
            // A command need not read its whole input.
            let _is_unread = to.send(chunk);
        }
        if is_last {
            return;
        }
    }
}

fn run(
    request: Request,
    dir: Arc<StoreDir>,
    opened: Opened,
    remote: &Arc<Remote>,
    handle: &Handle,
) -> u8 {
    let console = Console::Remote(remote.clone());
    let result: Result<()> = parse(&request).and_then(|args| {
        let folder = PathBuf::from(OsString::from_vec(request.folder));
        let session = Session::served(dir, console.clone(), opened, folder);
        let mut gone = console.interruption()?;
        handle.block_on(async {
            tokio::select! {
                biased;
                result = crate::commands::dispatch(&session, args.command) => result,
                // In its own process, the command would have ended here too.
                () = gone.wait() => Err(Stop::OutputClosed),
            }
        })
    });
    console.conclude(result)
}

fn parse(request: &Request) -> Result<Args> {
    let own = env!("CARGO_PKG_VERSION");
    if request.version != own {
        let version = &request.version;
        let text =
            format!("the server on this store is eidetica {own}, but this is eidetica {version}");
        return Err(Failure::new(text)
            .hint("restart the server with this version")
            .into());
    }
    let name = [b"eidetica".to_vec()];
    let args = name.into_iter().chain(request.args.iter().cloned());
    let args = Args::try_parse_from(args.map(OsString::from_vec));
    args.map_err(|error| {
        Failure::new("the server does not understand the command")
            .caused_by(error)
            .hint("restart the server with this version")
            .into()
    })
}
