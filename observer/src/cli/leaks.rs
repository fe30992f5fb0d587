//! `sockwarden leaks`: what is leaked now, as the daemon sees it.

use std::cell::Cell as Shared;

use clap::Args;

use super::{
    Failure,
    asking::{self, Out, Place},
    columns::{Cell, age, align, plain},
    exit,
};
use crate::{
    api::shapes::{Finding, FindingPage, News},
    detect::Kind,
    escape,
    incident::told,
    sinks::Palette,
    stacks::{frame::listed, groups},
};

/// Longest message in the table, characters.
const MESSAGE: usize = 400;

/// Shows the findings that are open in the daemon; the exit code is 1 if there are any.
#[derive(Debug, Args)]
pub(super) struct Leaks {
    /// Only this kind (see docs/findings.md).
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only this process.
    #[arg(long)]
    pid: Option<u32>,
    /// Show with each finding what happened to its socket before, and the call stack that opened
    /// it.
    #[arg(long)]
    explain: bool,
    /// Then show what opens, changes and clears, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// One JSON object a line (docs/json.md).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Leaks {
    pub(super) fn run(self) -> Result<u8, Failure> {
        asking::run(self.show())
    }

    async fn show(self) -> Result<u8, Failure> {
        let (client, out) = (self.place.client(), Out::new());
        // Before the list is asked for, so that nothing falls between the two.
        let news = if self.follow {
            let path = format!("/api/v1/events?types=finding,loss&explain={}", self.explain);
            Some(client.follow(&path).await?)
        } else {
            None
        };
        let ignored = Shared::new(0);
        let findings = asking::pages(&client, &self.path(), |page: FindingPage| {
            ignored.set(page.ignored);
            (page.findings, page.next.map(|next| next.to_string()))
        })
        .await?;
        if self.json {
            let lines: Result<Vec<_>, _> =
                findings.iter().map(|finding| asking::typed("finding", finding)).collect();
            out.lines(lines?)?;
        } else if findings.is_empty() {
            out.line(&out.palette.good("nothing is leaked"))?;
        } else {
            out.lines(table(&findings, out.palette))?;
            let sites = groups::group(findings.iter().filter(|it| it.cookie.is_some()).map(placed));
            out.lines(sites.iter().map(|group| out.palette.caution(&group.text())))?;
        }
        if !self.json && ignored.get() > 0 {
            let noun = if ignored.get() == 1 { "finding" } else { "findings" };
            let line = format!("{} {noun} ignored by rules", ignored.get());
            out.line(&out.palette.caution(&line))?;
        }
        if let Some(mut news) = news {
            while let Some(line) = news.next().await {
                let Ok(entry) = serde_json::from_slice(&line) else { continue };
                if !self.tell(&out, &entry)? {
                    return Ok(exit::OK);
                }
            }
            return Err(Failure::unable("the daemon has ended"));
        }
        Ok(if findings.is_empty() { exit::OK } else { exit::FINDING })
    }

    fn path(&self) -> String {
        let kind = self.kind.map(|kind| format!("&kind={kind}")).unwrap_or_default();
        let pid = self.pid.map(|pid| format!("&pid={pid}")).unwrap_or_default();
        let explain = if self.explain { "&explain=true" } else { "" };
        format!("/api/v1/findings?limit=10000{kind}{pid}{explain}")
    }

    /// Shows an entry of the stream; false when nobody reads any more.
    fn tell(&self, out: &Out, entry: &News) -> Result<bool, Failure> {
        if let News::Finding(finding) = entry
            && (self.kind.is_some_and(|kind| kind.code() != finding.kind)
                || self.pid.is_some_and(|pid| pid != finding.pid))
        {
            return Ok(true);
        }
        if self.json {
            return out.line(&crate::api::to_json(entry).map_err(Failure::unable)?);
        }
        let palette = out.palette;
        let line = match entry {
            News::Finding(finding) => {
                let message = escape::short(&finding.message, MESSAGE);
                let text = format!("{:<8} {:<13} {message}", finding.event, shown(&finding.kind));
                match &*finding.event {
                    "opened" => palette.alarm(&text),
                    "cleared" => palette.good(&text),
                    _ => palette.caution(&text),
                }
            }
            News::Loss { cause, lost } => {
                palette.alarm(&format!("{lost} records lost ({})", shown(cause)))
            }
            News::Gap { lost } => {
                palette.alarm(&format!("{lost} entries missed: this terminal was too slow"))
            }
            News::Pool(_) => return Ok(true),
        };
        if !out.line(&line)? {
            return Ok(false);
        }
        if let News::Finding(finding) = entry {
            out.lines(story(finding, palette))?;
        }
        Ok(true)
    }
}

/// What happened to the socket, as far as the daemon was asked for it.
fn story(finding: &Finding, palette: Palette) -> Vec<String> {
    let steps = finding.history.iter().flatten();
    let steps = steps.map(|step| (step.ago_ms, escape::short(&step.text, MESSAGE)));
    let mut lines = told(steps);
    if let Some(frames) = &finding.stack {
        lines.extend(listed(frames, finding.site.as_deref(), finding.stack_note.as_deref()));
    }
    lines.iter().map(|line| palette.faint(&format!("    {line}"))).collect()
}

/// Kind, process with its name, and place.
fn placed(finding: &Finding) -> (&str, u32, &str, Option<String>) {
    (&finding.kind, finding.pid, &finding.comm, finding.site.clone())
}

fn table(findings: &[Finding], palette: Palette) -> Vec<String> {
    let alarm = |text: &str| palette.alarm(text);
    let caution = |text: &str| palette.caution(text);
    let heading = ["SEVERITY", "KIND", "AGE", "PROCESS", "FD", "REMOTE", "MESSAGE"];
    let cell = |text: String| -> Cell<'_> { (text, &plain) };
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let severity: Cell<'_> = match &*finding.severity {
                "warning" => (shown(&finding.severity), &caution),
                _ => (shown(&finding.severity), &alarm),
            };
            // A socket that is older than the watch has been so for longer than is known.
            let least = if finding.born_before_observer { "≥" } else { "" };
            let fd = finding.holders.iter().find(|holder| holder.pid == finding.pid);
            [
                severity,
                cell(shown(&finding.kind)),
                cell(format!("{least}{}", age(finding.age_ms))),
                cell(format!("{} ({})", shown(&finding.comm), finding.pid)),
                cell(fd.map_or_else(|| "-".to_owned(), |holder| holder.fd.to_string())),
                cell(finding.remote.as_deref().map_or_else(|| "-".to_owned(), shown)),
                cell(escape::short(&finding.message, MESSAGE).into_owned()),
            ]
        })
        .collect();
    let mut lines = align(heading, |text| palette.strong(text), &rows).into_iter();
    let mut all: Vec<String> = lines.next().into_iter().collect();
    for (line, finding) in lines.zip(findings) {
        all.push(line);
        all.extend(story(finding, palette));
    }
    all
}

fn shown(text: &str) -> String {
    escape::short(text, 64).into_owned()
}

fn kind(code: &str) -> Result<Kind, String> {
    Kind::from_code(code).ok_or_else(|| {
        let all = Kind::ALL.map(Kind::code).join(", ");
        format!("`{code}` is no kind of finding; there are {all}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::shapes::{Holder, Step},
        stacks::Frame,
    };

    fn holder(pid: u32, comm: &str, fd: i32) -> Holder {
        Holder {
            pid,
            comm: comm.to_owned(),
            fd,
            close_on_exec: None,
            started: None,
            unit: None,
            container: None,
        }
    }

    fn step(ago_ms: u64, text: &str) -> Step {
        Step {
            time: "2026-11-22T00:00:00.000000Z".into(),
            ago_ms,
            what: "transition".into(),
            old: None,
            new: None,
            pid: None,
            comm: None,
            fd: None,
            last: None,
            text: text.into(),
        }
    }

    #[test]
    fn a_hostile_name_cannot_write_on_the_terminal() {
        let finding = Finding {
            event: "opened".into(),
            id: 1,
            kind: "close-wait".into(),
            pid: 7,
            comm: "\x1b[31mx\u{202e}".into(),
            started: None,
            unit: None,
            container: None,
            cookie: Some(1),
            state: Some("CLOSE_WAIT".into()),
            local: Some("127.0.0.1:1".into()),
            remote: Some("127.0.0.1:2".into()),
            holders: vec![holder(8, "y", 4), holder(7, "x", 5)],
            since: "2026-11-22T00:00:00.000000Z".into(),
            age_ms: 61_000,
            budget_ms: 10_000,
            evidence: "complete".into(),
            born_before_observer: true,
            message: "a\nb\u{9b}c".into(),
            severity: "error".into(),
            device: None,
            generation: None,
            overlap_us: None,
            detail: None,
            history: Some(vec![
                step(12_400, "CLOSE → SYN_SENT"),
                step(100, "close(5) by \x1b[31mx, the last"),
            ]),
            site: Some("0x1".into()),
            stack: Some(vec![Frame { offset: 1, ..Frame::default() }]),
            stack_note: Some("\x1b[2J".into()),
        };
        let lines = table(&[finding], Palette::default());
        assert_eq!(lines[2], "    -12.4 s  CLOSE → SYN_SENT");
        assert_eq!(lines[3], "     -0.1 s  close(5) by \\u{1b}[31mx, the last");
        assert_eq!(lines[4], "    → 0x1");
        assert_eq!(lines[5], "    \\u{1b}[2J");
        assert_eq!(lines.len(), 6);
        assert_eq!(
            lines[1],
            "error     close-wait  ≥1m01s  \\u{1b}[31mx\\u{202e} (7)  5   127.0.0.1:2  a\\u{a}b\\u{9b}c"
        );
    }
}
