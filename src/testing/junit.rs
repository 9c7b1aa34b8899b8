//! Results for CI systems, in the XML format of JUnit.

use super::printed::failure_text;
use super::run::{Cause, Outcome};
use std::fmt::Write;

/// A file of tests, with the name and the outcome of each case.
pub struct Suite<'a> {
    /// The file.
    pub file: &'a str,
    /// Name and outcome of each case.
    pub cases: Vec<(&'a str, &'a Outcome)>,
    /// Mistakes of the file, as text; then it has no cases.
    pub mistakes: Option<&'a str>,
}

/// The document. It has no times, so that equal results give equal bytes.
pub fn junit(suites: &[Suite<'_>]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for Suite { file, cases, mistakes } in suites {
        let failures = cases.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_))).count();
        let (tests, errors) = (cases.len() + usize::from(mistakes.is_some()), usize::from(mistakes.is_some()));
        let name = escaped(file);
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
        );
        if let Some(mistakes) = mistakes {
            let text = escaped(mistakes);
            let _ = writeln!(xml, "    <testcase classname=\"{name}\" name=\"(file)\">");
            let _ = writeln!(xml, "      <error message=\"the file has mistakes\">{text}</error>");
            let _ = writeln!(xml, "    </testcase>");
        }
        for (case, outcome) in cases {
            let case = escaped(case);
            let Outcome::Failed(failure) = outcome else {
                let _ = writeln!(xml, "    <testcase classname=\"{name}\" name=\"{case}\"/>");
                continue;
            };
            let message = match &failure.cause {
                Cause::Differences(differences) => format!("{} differences ({})", differences.len(), failure.order),
                Cause::Stopped(reason) => format!("the topology stopped: {reason}"),
            };
            let (message, text) = (escaped(&message), escaped(&failure_text(file, failure)));
            let _ = writeln!(xml, "    <testcase classname=\"{name}\" name=\"{case}\">");
            let _ = writeln!(xml, "      <failure message=\"{message}\">{text}</failure>");
            let _ = writeln!(xml, "    </testcase>");
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

/// Text for an attribute or an element. Characters that XML does not have become U+FFFD.
fn escaped(text: &str) -> String {
    let mut xml = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => xml += "&amp;",
            '<' => xml += "&lt;",
            '>' => xml += "&gt;",
            '"' => xml += "&quot;",
            '\n' | '\t' => xml.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => xml.push('\u{fffd}'),
            c => xml.push(c),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_xml_does_not_have_is_escaped() {
        assert_eq!(escaped("a<b & \"c\">\n\u{1b}"), "a&lt;b &amp; &quot;c&quot;&gt;\n\u{fffd}");
    }
}
