//! Answers: from a flag, from a person at the terminal, or the default.

use std::fmt::Display;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::str::FromStr;

use rand::Rng;
use zeroize::Zeroizing;

use super::SetupError;

/// How often a person may try again where nobody can tell what is wrong.
const ATTEMPTS: usize = 3;
/// Signs of a made-up password that nobody mistakes for others.
const SIGNS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// 20 of 32 signs are 100 bits.
const MADE_UP: usize = 20;

/// Asks if somebody is there: standard input and standard error are a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Questions {
    somebody_is_there: bool,
}

impl Questions {
    /// Questions on the terminal that this process has, if it has one.
    pub fn on_terminal() -> Self {
        Self { somebody_is_there: io::stdin().is_terminal() && io::stderr().is_terminal() }
    }

    /// Whether a person can be asked.
    pub fn is_somebody_there(&self) -> bool {
        self.somebody_is_there
    }

    /// What a flag gave; else what a person answers, who is shown the default; else the default.
    ///
    /// # Errors
    /// [`SetupError::Unanswered`], which names the flag, if there is none of them.
    pub fn answer<T>(
        &self,
        question: &str,
        flag: &'static str,
        given: Option<T>,
        default: Option<T>,
    ) -> Result<T, SetupError>
    where
        T: FromStr<Err: Display> + Display,
    {
        match (given, default) {
            (Some(given), _) => Ok(given),
            (None, default) if self.somebody_is_there => ask(question, default),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(SetupError::Unanswered { question: question.to_owned(), flag }),
        }
    }

    /// Yes or no: what a flag gave, else what a person answers, else no.
    pub fn is_wanted(&self, question: &str, given: bool) -> Result<bool, SetupError> {
        if given || !self.somebody_is_there {
            return Ok(given);
        }
        loop {
            let line = ask_line(&format!("{question} [y/N]: "))?;
            match line.to_ascii_lowercase().as_str() {
                "y" | "yes" => return Ok(true),
                "" | "n" | "no" => return Ok(false),
                _ => tell("expected y or n"),
            }
        }
    }

    /// A new password: what a file gave, else what a person types twice, else one that is made up. Says whether it was made
    /// up: then somebody must be told.
    pub fn new_password(
        &self,
        whose: &str,
        given: Option<Zeroizing<String>>,
    ) -> Result<(Zeroizing<String>, bool), SetupError> {
        if let Some(given) = given {
            return Ok((given, false));
        }
        if !self.somebody_is_there {
            return Ok((made_up(), true));
        }
        let ask = |prompt: String| {
            let password = rpassword::prompt_password(prompt).map(Zeroizing::new);
            password.map_err(SetupError::NoAnswer)
        };
        for _ in 0..ATTEMPTS {
            let password = ask(format!("{whose} (Enter: one is made up): "))?;
            if password.is_empty() {
                return Ok((made_up(), true));
            }
            if ask("The same again: ".to_owned())? == password {
                return Ok((password, false));
            }
            tell("these were two different passwords");
        }
        Err(SetupError::NotTheSame)
    }
}

/// The first line of a file that holds a secret.
pub fn first_line_of(file: &Path) -> Result<Zeroizing<String>, SetupError> {
    let failed = |source| SetupError::File { verb: "read", path: file.to_owned(), source };
    let text = Zeroizing::new(fs::read_to_string(file).map_err(failed)?);
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        Some(_) | None => Err(failed(io::Error::other("its first line is empty"))),
    }
}

fn made_up() -> Zeroizing<String> {
    let mut random = rand::rngs::OsRng;
    Zeroizing::new((0..MADE_UP).map(|_| char::from(SIGNS[random.gen_range(0..SIGNS.len())])).collect())
}

fn ask<T: FromStr<Err: Display> + Display>(question: &str, default: Option<T>) -> Result<T, SetupError> {
    let shown = default.as_ref().map(T::to_string).filter(|default| !default.is_empty());
    let shown = shown.map(|default| format!(" [{default}]")).unwrap_or_default();
    let mut default = default;
    loop {
        let line = ask_line(&format!("{question}{shown}: "))?;
        match (line.as_str(), default.take()) {
            ("", Some(default)) => return Ok(default),
            ("", None) => tell("there is no default: it needs an answer"),
            (text, again) => match text.parse() {
                Ok(answer) => return Ok(answer),
                Err(why) => {
                    tell(&why.to_string());
                    default = again;
                }
            },
        }
    }
}

/// What a person answers, without the blanks around it.
fn ask_line(prompt: &str) -> Result<String, SetupError> {
    // If it cannot be seen, the answer will not come either.
    let _ = write!(io::stderr(), "{prompt}");
    let mut line = String::new();
    match io::stdin().read_line(&mut line).map_err(SetupError::NoAnswer)? {
        0 => Err(SetupError::NoAnswer(io::ErrorKind::UnexpectedEof.into())),
        _ => Ok(line.trim().to_owned()),
    }
}

fn tell(what: &str) {
    let _ = writeln!(io::stderr(), "  {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Questions = Questions { somebody_is_there: false };

    #[test]
    fn a_flag_goes_before_the_default_and_without_both_the_flag_is_named() {
        assert_eq!(NOBODY.answer("The port", "--port", Some(1), Some(2)).unwrap(), 1);
        assert_eq!(NOBODY.answer("The port", "--port", None, Some(2)).unwrap(), 2);
        let error = NOBODY.answer::<u16>("The port", "--port", None, None).unwrap_err().to_string();
        assert!(error.contains("The port") && error.contains("--port"), "{error}");
        assert!(NOBODY.is_wanted("Coffee?", true).unwrap() && !NOBODY.is_wanted("Coffee?", false).unwrap());
    }

    #[test]
    fn a_password_that_nobody_gives_is_made_up_and_never_the_same() {
        let (first, made_up) = NOBODY.new_password("Password", None).unwrap();
        let (second, _) = NOBODY.new_password("Password", None).unwrap();
        assert!(made_up && first.len() == MADE_UP && first != second);
        let given = Some(Zeroizing::new("secret".to_owned()));
        assert!(matches!(NOBODY.new_password("Password", given), Ok((same, false)) if *same == "secret"));
    }

    #[test]
    fn a_password_file_has_it_in_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        fs::write(&file, "secret\r\nmore\n").unwrap();
        assert_eq!(*first_line_of(&file).unwrap(), "secret");
        fs::write(&file, "\nsecret\n").unwrap();
        assert!(first_line_of(&file).unwrap_err().to_string().contains("first line is empty"));
    }
}
