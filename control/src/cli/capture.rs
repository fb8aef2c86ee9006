//! `turnpike capture`: writes what a running turnpike receives, sends and drops to a pcapng file.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;

use super::trace::{Look, summary};
use crate::api::client::Part;
use crate::watch::{Direction, Kind};

/// What is in the file, for `--help`.
const ABOUT: &str = "\
A frame that was dropped or punted has its reason as a comment (Wireshark: frame.comment), a frame that control or the
kernel sent says «from control». Each port is an interface of the file. With `in` and `drop` a dropped frame is there
once; a frame that a TX queue had no room for is there as it was to be sent.

The match language is that of `turnpike trace --help`. A frame is matched by what it is where it is looked at: received
frames by the tags they came with, sent ones by those they left with.

Examples:
  turnpike capture -w drops.pcapng --direction drop --seconds 10
  turnpike capture -w - --interface er-primary --match 'tcp port 179' | tshark -r -";

/// A capture.
#[derive(Debug, Args)]
#[command(after_help = ABOUT)]
pub struct Capture {
    /// The file to write; `-`: standard output.
    #[arg(long, short, value_name = "FILE")]
    write: PathBuf,
    #[command(flatten)]
    look: Look,
    /// Which frames [default: all three].
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    direction: Vec<Direction>,
    /// Bytes of each frame to keep [default: all].
    #[arg(long, value_name = "N")]
    snaplen: Option<usize>,
}

/// Captures.
///
/// # Errors
/// turnpike refuses, or is not to be reached, or the file cannot be written.
pub fn capture(capture: &Capture) -> Result<(), String> {
    let name = capture.write.display().to_string();
    let to_stdout = name == "-";
    if to_stdout && io::stdout().is_terminal() {
        return Err("a capture is no text for a terminal: name a file with -w, or pipe it on".into());
    }
    let mut request = capture.look.request(Kind::Capture);
    request.directions.clone_from(&capture.direction);
    request.snaplen = capture.snaplen;
    // A request that is refused leaves the file alone.
    let mut watched = capture.look.start(&request)?;
    let failed = |error: io::Error| format!("cannot write {name}: {error}");
    let mut file: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout())
    } else {
        Box::new(File::create(&capture.write).map_err(failed)?)
    };
    eprintln!("capturing into {name}; Ctrl-C ends it");
    loop {
        match watched.wait().map_err(|error| format!("{error}; {name} holds what came before"))? {
            Part::Bytes(bytes) => match file.write_all(&bytes).and_then(|()| file.flush()) {
                // Who reads has seen enough.
                Err(error) if to_stdout && error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                result => result.map_err(failed)?,
            },
            Part::Packet(_) => {}
            Part::End(end) => {
                eprintln!("{}", summary("frame", "written", end));
                return Ok(());
            }
        }
    }
}
