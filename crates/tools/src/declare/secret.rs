//! Where a secret is kept. A project file never holds one.

use serde::Deserialize;

use crate::project::Project;

/// Names a secret: `{ env = "NAME" }` or `{ file = "…" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// A variable of the environment.
    Env(String),
    /// A file; its last line end does not count.
    File(String),
}

impl SecretRef {
    /// Returns the secret.
    ///
    /// # Errors
    ///
    /// What is missing, for a person.
    pub fn read(&self, project: &Project) -> Result<String, String> {
        match self {
            Self::Env(name) => match project.var(name) {
                Some(value) if !value.is_empty() => Ok(value.to_owned()),
                _ => Err(format!("the variable {name} is not set; set it in the environment or in .env")),
            },
            Self::File(path) => std::fs::read_to_string(project.anywhere(path))
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|e| format!("the secret file `{path}` cannot be read: {e}")),
        }
    }
}

/// Returns whether a variable of this name most likely holds a secret.
pub(crate) fn looks_secret(variable: &str) -> bool {
    const SIGNS: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE"];
    let name = variable.to_ascii_uppercase();
    SIGNS.iter().any(|sign| name.contains(sign)) || name.ends_with("KEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_with_telling_names_are_secrets() {
        for name in ["GITHUB_TOKEN", "db_password", "API_KEY", "AWS_SECRET_ACCESS_KEY"] {
            assert!(looks_secret(name), "{name}");
        }
        for name in ["PATH", "HOME", "LANG", "KEYBOARD"] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn a_secret_is_a_variable_or_a_file_and_nothing_else() {
        let read = |text| serde_json::from_str::<SecretRef>(text).ok();
        assert_eq!(read(r#"{"env": "A"}"#), Some(SecretRef::Env("A".to_owned())));
        assert_eq!(read(r#"{"file": "a"}"#), Some(SecretRef::File("a".to_owned())));
        for wrong in [r#""hunter2""#, r#"{"value": "x"}"#, r#"{"env": "A", "file": "b"}"#, "{}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
