//! The command channel: a unit that systemd takes from SMBIOS credentials serves commands on a
//! virtio serial port, so neither the image nor the network is touched. Needs systemd 256 in the
//! guest. One line of base64 goes in (a script for bash), one line comes out.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::{Engine, engine::general_purpose::STANDARD};

/// Serves commands. A boot is announced with its identity and the deployment that runs.
const SCRIPT: &str = r#"
port=/dev/virtio-ports/agent
[ -c $port ] || exit 1
exec 3<>$port
# The argument of the kernel names a link, and what that leads to may change soon after the boot.
for directory in /sysroot/ostree/deploy/*/deploy/*.*/; do
    [ "$directory" -ef / ] && deployment=$(basename "$directory")
done
echo "READY $(cat /proc/sys/kernel/random/boot_id) ${deployment:-none}" >&3
while IFS= read -r line <&3; do
    out=$(mktemp) err=$(mktemp)
    echo "$line" | base64 -d >$out.script
    bash $out.script >$out 2>$err </dev/null
    code=$?
    echo "DONE $code .$(base64 -w0 <$out) .$(base64 -w0 <$err)" >&3
    rm -f $out $err $out.script
done
"#;

/// Pulled in by the default target, ordered early, and never in the way of a shutdown.
const UNIT: &str = r#"[Unit]
Description=Commands of the boot test
After=basic.target dev-virtio\x2dports-agent.device
Wants=dev-virtio\x2dports-agent.device
# A slow machine takes longer to find the port than systemd waits for it.
StartLimitIntervalSec=0
[Service]
Environment=HOME=/root
ExecStart=/bin/bash -c "eval \"$$(echo SCRIPT | base64 -d)\""
Restart=always
RestartSec=1
TimeoutStopSec=2
"#;

/// The arguments that give the guest the unit.
pub fn credentials() -> Vec<String> {
    let unit = UNIT.replace("SCRIPT", &STANDARD.encode(SCRIPT));
    let wants = "[Unit]\nWants=boot-test-agent.service\n";
    let mut arguments = credential("systemd.extra-unit.boot-test-agent.service", &unit);
    arguments.extend(credential("systemd.unit-dropin.multi-user.target", wants));
    arguments
}

/// The arguments that give the guest one credential of systemd.
pub fn credential(name: &str, value: &str) -> Vec<String> {
    let value = STANDARD.encode(value);
    let text = format!("type=11,value=io.systemd.credential.binary:{name}={value}");
    vec!["-smbios".into(), text]
}

/// What a command in the guest did.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// A line from the guest, or the reason for there being none.
#[derive(Debug)]
pub enum Said {
    /// A boot got as far as the agent: its boot id, and the deployment's directory, COMMIT.SERIAL.
    Ready(String, String),
    /// A command ended.
    Done(Output),
    /// Nothing came in time.
    Nothing,
    /// The machine is gone.
    Gone,
}

/// The host's end of the serial port.
#[derive(Debug)]
pub struct Channel {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Channel {
    /// Takes over a connection to QEMU's socket.
    pub fn new(stream: UnixStream) -> Self {
        let (reader, line) = (BufReader::new(stream), Vec::new());
        Self { reader, line }
    }

    /// Sends a script and does not wait for it.
    pub fn send(&mut self, script: &str) -> Result<()> {
        let line = STANDARD.encode(script) + "\n";
        let sent = self.reader.get_mut().write_all(line.as_bytes());
        sent.context("Sending a command to the guest")
    }

    /// Waits for the next line that means something.
    pub fn listen(&mut self, deadline: Instant) -> Result<Said> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.reader.get_ref().set_read_timeout(Some(left))?;
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) => return Ok(Said::Gone),
                Ok(_) if self.line.ends_with(b"\n") => {}
                Ok(_) => return Ok(Said::Gone),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(Said::Nothing),
                    ErrorKind::ConnectionReset => return Ok(Said::Gone),
                    ErrorKind::Interrupted => continue,
                    _ => return Err(error).context("Listening to the guest"),
                },
            }
            let line = String::from_utf8_lossy(&self.line).trim().to_owned();
            self.line.clear();
            if let Some(said) = parse(&line)? {
                return Ok(said);
            }
        }
    }
}

/// What a line says; `None` for the echo of a port that was just opened.
fn parse(line: &str) -> Result<Option<Said>> {
    let words: Vec<&str> = line.split(' ').collect();
    Ok(match words[..] {
        ["READY", boot, deployment] => Some(Said::Ready(boot.into(), deployment.into())),
        ["DONE", code, stdout, stderr] => Some(Said::Done(Output {
            code: code.parse()?,
            stdout: text(stdout)?,
            stderr: text(stderr)?,
        })),
        ["DONE", ..] => bail!("The guest's answer was cut: {line}"),
        _ => None,
    })
}

fn text(field: &str) -> Result<String> {
    let bytes = STANDARD.decode(field.trim_start_matches('.'))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_meant() {
        let said = parse("READY 1234 0a1b2c.0").unwrap();
        assert!(matches!(said, Some(Said::Ready(boot, _)) if boot == "1234"));
        let Some(Said::Done(output)) = parse("DONE 3 .aGVsbG8= .").unwrap() else {
            panic!("no output");
        };
        assert_eq!(
            (output.code, &*output.stdout, &*output.stderr),
            (3, "hello", "")
        );
        assert!(parse("aGVsbG8=").unwrap().is_none());
        assert!(parse("DONE 3").is_err());
    }
}
