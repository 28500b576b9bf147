//! What the command of an `install` line does, as far as its text tells.

/// Whether it loads the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It runs modprobe or another loader.
    Loads,
    /// It does nothing of the kind.
    KeepsOut,
    /// A program of somebody's own: nobody knows.
    Unknown,
}

/// Programs that load modules.
const LOADERS: [&str; 5] = ["modprobe", "insmod", "kmod", "modprobe-guard", "busybox"];
/// Programs, and words of the shell's, that certainly do not.
const IDLE: [&str; 12] =
    ["false", "true", ":", "exit", "echo", "logger", "printf", "sleep", "test", "[", "sysctl", "return"];
/// Words before a command.
const BEFORE: [&str; 12] = ["exec", "command", "env", "nice", "!", "if", "then", "else", "do", "{", "(", "sudo"];

/// Judges a command as a shell would run it.
pub fn effect(command: &[u8]) -> Effect {
    let text = String::from_utf8_lossy(command).into_owned();
    let mut found = Effect::KeepsOut;
    for command in commands(&text) {
        let mut words = command.iter().map(String::as_str);
        let is_before = |word: &&str| BEFORE.contains(word) || word.contains('=');
        let Some(program) = words.find(|word| !is_before(word)) else { continue };
        let program = program.rsplit('/').next().unwrap_or(program);
        match () {
            () if LOADERS.contains(&program) => return Effect::Loads,
            () if IDLE.contains(&program) || program == "}" || program == "fi" || program == "done" => {}
            () => found = Effect::Unknown,
        }
        // What follows ends the shell.
        if program == "exit" {
            break;
        }
    }
    found
}

/// The simple commands in a line, each as its words; quotes are taken off, a comment is left out.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, '#') if word.is_none() => break,
            (None, ';' | '&' | '|' | '\n' | '(' | ')' | '`') => {
                commands.last_mut().into_iter().for_each(|command| command.extend(word.take()));
                commands.push(Vec::new());
            }
            (None, _) if letter.is_whitespace() => {
                commands.last_mut().into_iter().for_each(|command| command.extend(word.take()));
            }
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    commands.last_mut().into_iter().for_each(|command| command.extend(word.take()));
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_load_nothing_are_told_from_those_that_do() {
        for (command, expected) in [
            ("/bin/false", Effect::KeepsOut),
            ("/bin/true", Effect::KeepsOut),
            ("/usr/bin/true # no", Effect::KeepsOut),
            (":", Effect::KeepsOut),
            ("", Effect::KeepsOut),
            ("exit 1; modprobe x", Effect::KeepsOut),
            ("echo no modprobe for you; /bin/false", Effect::KeepsOut),
            ("/bin/echo \"modprobe of x; modprobe is disabled\"; /bin/false", Effect::KeepsOut),
            ("/usr/bin/logger -t modprobe 'blocked'; exit 1", Effect::KeepsOut),
            ("/bin/false # see ticket: modprobe hardening", Effect::KeepsOut),
            ("/sbin/modprobe --ignore-install nf_conntrack && sysctl -p", Effect::Loads),
            ("{ /sbin/modprobe --ignore-install x; }", Effect::Loads),
            ("if true; then modprobe -i x; fi", Effect::Loads),
            ("logger loading || modprobe -i x", Effect::Loads),
            ("LANG=C exec modprobe -i x", Effect::Loads),
            ("exec /usr/sbin/modprobe-guard --hook x", Effect::Loads),
            ("/usr/local/bin/deny", Effect::Unknown),
            ("sh -c 'modprobe -i x'", Effect::Unknown),
        ] {
            assert_eq!(effect(command.as_bytes()), expected, "{command}");
        }
    }
}
