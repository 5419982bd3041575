//! QEMU's control socket: a command in, its answer out. One connection a command, so that nothing
//! has to be read while a machine runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Enough for a snapshot of a machine's memory on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command of QEMU's machine protocol.
pub fn execute(socket: &Path, command: &str, arguments: Value) -> Result<Value> {
    let stream = UnixStream::connect(socket);
    let mut stream = stream.with_context(|| format!("Connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    for (name, arguments) in [("qmp_capabilities", json!({})), (command, arguments)] {
        let line = json!({"execute": name, "arguments": arguments});
        writeln!(stream, "{line}")?;
        let answer = answer(&mut reader)?;
        if name == command {
            return Ok(answer);
        }
    }
    bail!("QEMU gave no answer to {command}")
}

/// Runs a command of QEMU's monitor for people; what it prints is an error.
pub fn monitor(socket: &Path, line: &str) -> Result<()> {
    let arguments = json!({"command-line": line});
    let said = execute(socket, "human-monitor-command", arguments)?;
    match said.as_str().unwrap_or_default().trim() {
        "" => Ok(()),
        text => bail!("QEMU on {line:?}: {text}"),
    }
}

/// The next answer; events and the greeting are passed over.
fn answer(reader: &mut impl BufRead) -> Result<Value> {
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let mut value: Value = serde_json::from_str(&line)?;
        if let Some(error) = value.get("error") {
            bail!("QEMU refused: {error}");
        }
        if let Some(result) = value.get_mut("return") {
            return Ok(result.take());
        }
        line.clear();
    }
    bail!("QEMU closed its control socket")
}
