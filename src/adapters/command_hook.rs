//! Tells of alerts by running a program: no shell, no secrets in its environment, not for ever.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::gemini::SecretText;
use crate::domain::alert::{Channel, Notification};
use crate::ports::alert_channel::{AlertChannel, ChannelError};
use crate::wire::alert;

/// How much of what the program prints is kept, of each of its two outputs.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Settings given by variables may hold addresses that are secrets.
const SETTINGS_PREFIX: &str = "PAGEMILL__";
/// A shorter text is no secret, and may be part of any variable.
const SECRET_BYTES_MIN: usize = 8;

/// What is run.
#[derive(Clone)]
pub struct CommandOptions {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    pub timeout: Duration,
    /// Variables that the program must not see, by name.
    pub hidden_names: Vec<String>,
    /// Texts that must be in no variable of the program.
    pub hidden_texts: Vec<SecretText>,
}

/// Runs a program for each message.
pub struct CommandHook {
    options: CommandOptions,
}

impl fmt::Debug for CommandHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandHook")
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

impl CommandHook {
    /// Makes a hook. Runs nothing.
    pub fn new(options: CommandOptions) -> Self {
        CommandHook { options }
    }

    fn program(&self) -> &str {
        self.options.command.first().map_or("", String::as_str)
    }

    /// The variables of this process that the program may see.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let hidden: BTreeSet<&str> = self
            .options
            .hidden_names
            .iter()
            .map(String::as_str)
            .collect();
        let texts: Vec<&str> = self
            .options
            .hidden_texts
            .iter()
            .map(SecretText::reveal)
            .filter(|text| text.len() >= SECRET_BYTES_MIN)
            .collect();
        std::env::vars_os()
            .filter(|(name, value)| {
                let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
                let is_hidden = hidden.contains(&*name) || name.starts_with(SETTINGS_PREFIX);
                !is_hidden && !texts.iter().any(|text| value.contains(text))
            })
            .collect()
    }

    fn command(&self, notification: &Notification) -> Command {
        let mut command = Command::new(self.program());
        command
            .args(self.options.command.iter().skip(1))
            .env_clear()
            .envs(self.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what it starts ends with it, and a Ctrl-C is not for it.
            .process_group(0)
            .kill_on_drop(true);
        let facts = [
            ("ID", notification.id.clone()),
            ("EVENT", notification.event.to_string()),
            ("KIND", notification.kind.clone()),
            ("SUBJECT", notification.subject.clone()),
            ("MESSAGE", notification.message.clone()),
            ("SINCE", notification.since.to_string()),
            ("AT", notification.at.to_string()),
            ("IDEMPOTENCY_ID", notification.idempotency_id()),
        ];
        for (name, value) in facts {
            command.env(format!("PAGEMILL_ALERT_{name}"), value.replace('\0', " "));
        }
        command
    }
}

#[async_trait(?Send)]
impl AlertChannel for CommandHook {
    fn channel(&self) -> Channel {
        Channel::Command
    }

    fn place(&self) -> String {
        self.program().to_owned()
    }

    async fn deliver(&self, notification: &Notification) -> Result<(), ChannelError> {
        let fault = |words: String| ChannelError(format!("{}: {words}", self.program()));
        let mut child = self
            .command(notification)
            .spawn()
            .map_err(|error| fault(format!("cannot be run: {error}")))?;
        let group = child.id();
        let body = alert::body(notification);
        let talk = tokio::time::timeout(self.options.timeout, talk(&mut child, body)).await;
        let ended = match talk {
            Ok(ended) => ended,
            Err(_elapsed) => {
                end_group(group);
                // It is reaped; a program that cannot be killed is left to the system.
                let _gone = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
                let seconds = self.options.timeout.as_secs();
                return Err(fault(format!("not done after {seconds} s; it was ended")));
            }
        };
        let (status, out, err) = ended.map_err(|error| fault(error.to_string()))?;
        // Whatever it left running behind its back is ended as well.
        end_group(group);
        tracing::debug!(program = self.program(), %status, out, err, "alert command ran");
        if status.success() {
            Ok(())
        } else {
            Err(fault(format!("ended with {status}")))
        }
    }
}

/// Hands a program its input, and waits for its end and its words.
async fn talk(
    child: &mut Child,
    body: String,
) -> std::io::Result<(std::process::ExitStatus, String, String)> {
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async move {
        if let Some(mut input) = input {
            // A program that does not read its input has its variables.
            let _unread = input.write_all(format!("{body}\n").as_bytes()).await;
        }
    };
    let ((), status) = tokio::join!(write, async {
        let (status, out, err) = tokio::join!(child.wait(), begin_of(out), begin_of(err));
        status.map(|status| (status, out, err))
    });
    status
}

/// The begin of what a program prints; the rest is read and forgotten, so that it is not held up.
async fn begin_of(output: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut output) = output else {
        return String::new();
    };
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(count) = output.read(&mut piece).await {
        if count == 0 {
            break;
        }
        let room = OUTPUT_BYTES_MAX - kept.len();
        kept.extend_from_slice(&piece[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn end_group(group: Option<u32>) {
    let id = group.and_then(|id| i32::try_from(id).ok());
    if let Some(group) = id.and_then(Pid::from_raw) {
        // There may be nobody left in it.
        let _gone = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::AlertEvent;
    use crate::domain::time::Timestamp;
    use std::fs;
    use std::path::Path;

    fn notification() -> Notification {
        let at = Timestamp::parse("2026-11-22T10:00:00Z").unwrap();
        Notification {
            id: "0190-a".into(),
            event: AlertEvent::Fired,
            kind: "halted".into(),
            subject: "key".into(),
            message: "a 'quoted' $(word)".into(),
            since: at,
            fired_at: at,
            cleared_at: None,
            instance: "pagemill".into(),
            at,
            attempt: 1,
        }
    }

    fn hook(script: &str, folder: &Path, timeout: Duration) -> CommandHook {
        let command = ["/bin/sh", "-c", script, "sh", folder.to_str().unwrap()];
        CommandHook::new(CommandOptions {
            command: command.map(str::to_owned).to_vec(),
            timeout,
            hidden_names: vec!["HOME".into()],
            hidden_texts: vec![SecretText::new(std::env::var("PATH").unwrap())],
        })
    }

    #[actix::test]
    async fn a_program_gets_the_message_and_none_of_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let script = "/bin/cat > $1/in; /usr/bin/env > $1/env; echo printed; exit 0";
        let hook = hook(script, folder.path(), Duration::from_secs(60));
        hook.deliver(&notification()).await.unwrap();
        let input = fs::read_to_string(folder.path().join("in")).unwrap();
        assert_eq!(input, alert::body(&notification()) + "\n");
        let env = fs::read_to_string(folder.path().join("env")).unwrap();
        assert!(env.contains("PAGEMILL_ALERT_MESSAGE=a 'quoted' $(word)\n"));
        assert!(env.contains("PAGEMILL_ALERT_IDEMPOTENCY_ID=0190-a-fired\n"));
        assert!(!env.contains("\nHOME="), "{env}");
        assert!(!env.contains(&std::env::var("PATH").unwrap()), "{env}");
    }

    #[actix::test]
    async fn a_program_that_fails_or_is_not_there_says_so_in_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let minute = Duration::from_secs(60);
        // It reads nothing, and prints more than is kept.
        let script = "/usr/bin/head -c 100000 /dev/zero; exit 3";
        let failing = hook(script, folder.path(), minute);
        let words = failing.deliver(&notification()).await.unwrap_err();
        assert_eq!(words.to_string(), "/bin/sh: ended with exit status: 3");
        let mut gone = hook("", folder.path(), minute);
        gone.options.command = vec!["/no/such/program".into()];
        let words = gone.deliver(&notification()).await.unwrap_err().to_string();
        assert!(
            words.starts_with("/no/such/program: cannot be run: "),
            "{words}"
        );
    }

    #[actix::test]
    async fn a_program_that_does_not_end_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        // Reads until nobody holds the other end any more.
        let read = fifo.clone();
        let reader = std::thread::spawn(move || fs::read_to_string(read).unwrap());
        let script = "(/bin/sleep 1000; echo alive) >$1/fifo & /bin/sleep 1000";
        let short = hook(script, folder.path(), Duration::from_millis(500));
        let words = short.deliver(&notification()).await.unwrap_err();
        assert_eq!(
            words.to_string(),
            "/bin/sh: not done after 0 s; it was ended"
        );
        // A program that was ended before it came this far never held it.
        drop(fs::File::options().read(true).write(true).open(fifo));
        assert_eq!(reader.join().unwrap(), "");
    }
}
