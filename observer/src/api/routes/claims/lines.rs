//! PURE. Lines of a stream of claims, out of parts that end anywhere.

use axum::http::StatusCode;

use super::check_device;
use crate::{
    api::{
        body,
        error::ApiError,
        shapes::{ClaimLine, ClaimShape, ClaimStage},
    },
    claims::{self, Claim, Statement},
    model::Ends,
};

/// Cuts a stream into lines.
pub(super) struct Lines {
    /// What has come of a line that is not whole yet.
    rest: Vec<u8>,
    longest: usize,
    /// Lines that are whole.
    count: u64,
}

/// What lines say, and what is wrong with the one after them.
type Read = (Vec<Statement>, Option<ApiError>);

impl Lines {
    /// The beginning of a stream whose lines may have `longest` bytes.
    pub(super) fn new(longest: u32) -> Self {
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        Self { rest: Vec::new(), longest, count: 0 }
    }

    /// More of it.
    pub(super) fn take(&mut self, part: &[u8]) -> Read {
        let mut statements = Vec::new();
        let mut pieces = part.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.rest.len() + piece.len() > self.longest {
                return (statements, Some(self.too_long()));
            }
            self.rest.extend_from_slice(piece);
            if pieces.peek().is_none() {
                break;
            }
            match self.line() {
                Ok(statement) => statements.push(statement),
                Err(broken) => return (statements, Some(broken)),
            }
        }
        (statements, None)
    }

    /// Its end, which ends the last line too.
    pub(super) fn end(&mut self) -> Read {
        if self.rest.is_empty() {
            return (Vec::new(), None);
        }
        match self.line() {
            Ok(statement) => (vec![statement], None),
            Err(broken) => (Vec::new(), Some(broken)),
        }
    }

    fn line(&mut self) -> Result<Statement, ApiError> {
        self.count += 1;
        let line = std::mem::take(&mut self.rest);
        if line.trim_ascii().is_empty() {
            return Ok(Statement::Confirm);
        }
        body::parse(&line).and_then(statement).map_err(|error| {
            let message = format!("line {}: {}", self.count, error.message);
            ApiError { message, code: "broken-line", ..error }
        })
    }

    fn too_long(&self) -> ApiError {
        let message = format!(
            "line {}: a line may have {} bytes (`max_body` of [api])",
            self.count + 1,
            self.longest
        );
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "line-too-long", message)
    }
}

/// The claims of a request.
pub(super) fn claims(given: Vec<ClaimShape>) -> Result<Vec<Claim>, ApiError> {
    if given.len() > claims::MOST_CLAIMS {
        return Err(claims::Refusal::TooManyClaims.into());
    }
    let place = |index: usize| {
        move |error: ApiError| {
            let field = error.field.unwrap_or_default();
            ApiError { field: Some(format!("claims[{index}].{field}")), ..error }
        }
    };
    given.into_iter().enumerate().map(|(index, it)| claim(it).map_err(place(index))).collect()
}

fn statement(line: ClaimLine) -> Result<Statement, ApiError> {
    match line {
        ClaimLine::Claim(given) => claim(given).map(Statement::Claim),
        ClaimLine::Retract(given) => Ok(Statement::Retract(ends(given.local, given.remote))),
        ClaimLine::Snapshot(given) => Ok(Statement::All { claims: claims(given)?, lease: None }),
    }
}

fn claim(given: ClaimShape) -> Result<Claim, ApiError> {
    let ClaimShape { local, remote, device, stage } = given;
    check_device(&device)?;
    let stage = match stage {
        ClaimStage::Connecting => claims::Stage::Connecting,
        ClaimStage::Online => claims::Stage::Online,
    };
    Ok(Claim { ends: ends(local, remote), device: device.into(), stage })
}

/// As the table writes them.
fn ends(local: std::net::SocketAddr, remote: std::net::SocketAddr) -> Ends {
    Ends::new((local.ip(), local.port()), (remote.ip(), remote.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: &str = r#"{"claim":{"local":"[::ffff:10.0.0.1]:40000","remote":"10.0.0.2:1883","device":"d","stage":"online"}}"#;
    const RETRACT: &str = r#"{"retract":{"local":"10.0.0.1:40000","remote":"10.0.0.2:1883"}}"#;

    fn ends_of_both() -> Ends {
        let address = |text: &str| text.parse().expect("invariant: an address");
        Ends { local: address("10.0.0.1:40000"), remote: address("10.0.0.2:1883") }
    }

    fn expected() -> Vec<Statement> {
        let claim =
            Claim { ends: ends_of_both(), device: "d".into(), stage: claims::Stage::Online };
        vec![
            Statement::Claim(claim),
            Statement::Confirm,
            Statement::Retract(ends_of_both()),
            Statement::All { claims: Vec::new(), lease: None },
        ]
    }

    #[test]
    fn lines_are_the_same_wherever_the_parts_end() {
        let text = format!("{CLAIM}\n\n{RETRACT}\r\n{{\"snapshot\":[]}}");
        for size in 1..text.len() {
            let mut lines = Lines::new(1_024);
            let mut all = Vec::new();
            for part in text.as_bytes().chunks(size) {
                let (statements, broken) = lines.take(part);
                assert_eq!(broken, None);
                all.extend(statements);
            }
            let (last, broken) = lines.end();
            all.extend(last);
            assert_eq!((all, broken), (expected(), None), "parts of {size}");
            assert_eq!(lines.end(), (Vec::new(), None));
        }
    }

    #[test]
    fn a_broken_line_is_named_and_the_good_ones_before_it_stay() {
        let long = format!("{{\"retract\":\"{}\"}}", "x".repeat(200));
        let nameless = CLAIM.replace("\"d\"", "\"\"");
        let cases = [
            ("{", "broken-line", "line 3: "),
            ("{\"claim\":{}}", "broken-line", "missing field"),
            ("{\"clam\":{}}", "broken-line", "line 3: "),
            ("{\"snapshot\":[],\"x\":1}", "broken-line", "line 3: "),
            (&*nameless, "broken-line", "line 3: device may"),
            (&*long, "line-too-long", "line 3: "),
        ];
        for (wrong, code, part) in cases {
            let mut lines = Lines::new(200);
            let (statements, broken) =
                lines.take(format!("\n{RETRACT}\n{wrong}\n{RETRACT}\n").as_bytes());
            assert_eq!(statements.len(), 2, "{wrong}");
            let broken = broken.expect("invariant: all are wrong");
            assert!(broken.code == code && broken.message.contains(part), "{wrong}: {broken}");
        }
    }

    #[test]
    fn a_wrong_claim_of_a_registry_is_named_by_its_place() {
        let shape = |device: &str| ClaimShape {
            local: ends_of_both().local,
            remote: ends_of_both().remote,
            device: device.to_owned(),
            stage: ClaimStage::Online,
        };
        let error = claims(vec![shape("d"), shape(&"x".repeat(1_025))]).expect_err("too long");
        assert_eq!(error.field.as_deref(), Some("claims[1].device"));
        assert_eq!(claims(vec![shape(&"x".repeat(1_024))]).map(|it| it.len()), Ok(1));
        let many = vec![shape("d"); claims::MOST_CLAIMS + 1];
        assert_eq!(claims(many).map_err(|error| error.code), Err("too-many-claims"));
    }
}
