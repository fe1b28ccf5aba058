//! The argument vector of a command: what may stand where.

use crate::pattern::Pattern;

/// Programs that run a text as code, and the option that makes them.
const INTERPRETERS: [(&str, char); 14] = [
    ("sh", 'c'),
    ("bash", 'c'),
    ("dash", 'c'),
    ("ash", 'c'),
    ("zsh", 'c'),
    ("ksh", 'c'),
    ("fish", 'c'),
    ("python", 'c'),
    ("python3", 'c'),
    ("perl", 'e'),
    ("ruby", 'e'),
    ("node", 'e'),
    ("php", 'r'),
    ("lua", 'e'),
];

/// Reads an argument vector.
///
/// # Errors
///
/// What is wrong with it: no program, a program that the input chooses, or a placeholder inside code
/// that an interpreter would run.
pub(super) fn parse(command: &[String]) -> Result<Vec<Pattern>, String> {
    let argv: Vec<Pattern> = command.iter().map(|part| Pattern::parse(part)).collect();
    match argv.first() {
        None => return Err("give at least a program: command = [\"date\"]".to_owned()),
        Some(_) if command[0].is_empty() => return Err("the program's name is empty".to_owned()),
        Some(program) if !program.is_literal() => {
            return Err(format!("`{}`: the input must not choose the program", command[0]));
        }
        Some(_) => {}
    }
    if let Some(code) = code_position(command).filter(|at| !argv[*at].is_literal()) {
        return Err(format!(
            "`{}` is code, where a placeholder could run anything; pass the value as an argument of its own, \
             as in [\"sh\", \"-c\", \"echo \\\"$1\\\"\", \"sh\", \"{{name}}\"]",
            command[code]
        ));
    }
    Ok(argv)
}

/// Returns where in `command` an interpreter takes code from.
fn code_position(command: &[String]) -> Option<usize> {
    let program = command[0].rsplit('/').next()?;
    let (_, letter) = INTERPRETERS.iter().find(|(name, _)| *name == program)?;
    let option = command[1..]
        .iter()
        .position(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.ends_with(*letter))?;
    Some(option + 2).filter(|at| *at < command.len())
}

/// Returns what may be paths among the literal arguments, the value of `--option=path` included.
pub(in crate::kind) fn paths(command: &[String]) -> impl Iterator<Item = &str> {
    command.iter().enumerate().filter_map(|(at, part)| {
        let path = match part.strip_prefix('-') {
            Some(option) => option.split_once('=')?.1,
            None => part,
        };
        let is_path = at > 0 || path.contains('/');
        (is_path && !path.is_empty() && Pattern::parse(path).is_literal()).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn the_input_chooses_no_program_and_no_code() {
        for wrong in [
            &[][..],
            &[""],
            &["{program}", "x"],
            &["sh", "-c", "echo {name}"],
            &["/bin/bash", "-ec", "echo {name}"],
            &["python3", "-c", "print('{name}')"],
        ] {
            assert!(parse(&command(wrong)).is_err(), "{wrong:?}");
        }
        for right in [
            &["sh", "-c", "echo \"$1\"", "sh", "{name}"][..],
            &["sh", "deploy.sh", "{version}"],
            &["awk", "{print}"],
            &["grep", "-c", "{name}"],
        ] {
            assert!(parse(&command(right)).is_ok(), "{right:?}");
        }
    }

    #[test]
    fn literal_arguments_may_be_paths() {
        let command = command(&["sh", "deploy.sh", "{version}", "--config=conf.toml", "-v"]);
        assert_eq!(paths(&command).collect::<Vec<_>>(), ["deploy.sh", "conf.toml"]);
        assert_eq!(paths(&["./tool".to_owned()]).collect::<Vec<_>>(), ["./tool"]);
    }
}
