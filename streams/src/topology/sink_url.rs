//! The address of a sink, as the file has it: secrets come from the environment.

/// An address in which `${NAME}` stands for a variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkUrl {
    written: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

/// A variable that an address needs and the environment does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable `{0}` is not set")]
pub struct UnsetVariable(pub String);

impl SinkUrl {
    /// Reads an address; an error names what is wrong with its variables.
    pub fn parse(written: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), written);
        while let Some((text, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("`${` has no `}`")?;
            if !is_variable(name) {
                return Err(format!("`{name}` cannot be the name of an environment variable"));
            }
            parts.extend([Part::Text(text.to_owned()), Part::Variable(name.to_owned())]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self { written: written.to_owned(), parts })
    }

    /// As the file has it: with the names of variables, not their values.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether it needs the environment.
    pub fn has_variables(&self) -> bool {
        self.parts.len() > 1
    }

    /// What stands before the first colon; None where a variable decides it, or where there is no colon.
    pub fn scheme(&self) -> Option<&str> {
        let Some(Part::Text(first)) = self.parts.first() else { return None };
        first.split_once(':').map(|(scheme, _)| scheme)
    }

    /// The address with the values of its variables. It may hold secrets: it must not be shown.
    pub fn expand(&self, variable: impl Fn(&str) -> Option<String>) -> Result<String, UnsetVariable> {
        let mut url = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Variable(name) => url.push_str(&variable(name).ok_or_else(|| UnsetVariable(name.clone()))?),
            }
        }
        Ok(url)
    }
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_anywhere_and_their_values_are_taken_as_they_are() {
        let variable = |name: &str| (name != "UNSET").then(|| format!("<{name}>${{X}}"));
        for (written, scheme, expanded) in [
            ("sqlite:a.db", Some("sqlite"), "sqlite:a.db"),
            ("mysql://u:${PW}@h/${_DB1}", Some("mysql"), "mysql://u:<PW>${X}@h/<_DB1>${X}"),
            ("${URL}", None, "<URL>${X}"),
            ("s${A}:x", None, "s<A>${X}:x"),
            ("a.db", None, "a.db"),
            ("sqlite:$a}.db", Some("sqlite"), "sqlite:$a}.db"),
        ] {
            let url = SinkUrl::parse(written).unwrap();
            assert_eq!((url.written(), url.scheme()), (written, scheme));
            assert_eq!(url.has_variables(), written.contains("${"));
            assert_eq!(url.expand(variable).as_deref(), Ok(expanded));
        }
        let unset = SinkUrl::parse("mysql://u:${PW}@${UNSET}/db").unwrap().expand(variable);
        assert_eq!(unset, Err(UnsetVariable("UNSET".into())));
    }

    #[test]
    fn what_cannot_be_a_variable_is_refused() {
        for (written, part) in
            [("a${", "no `}`"), ("${}", "``"), ("${1A}", "`1A`"), ("${A-B}", "`A-B`"), ("${${A}}", "`${A`")]
        {
            let refused = SinkUrl::parse(written).unwrap_err();
            assert!(refused.contains(part), "{written}: {refused}");
        }
    }
}
