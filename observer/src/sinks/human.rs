//! For people: an aligned stream, findings in full sentences, a table at the end.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use observer_ebpf::counter::Counter;

use super::{Palette, Report, Sink, Summary};
use crate::{
    clock::WallClock,
    correlate::SeenTransition,
    detect::Kind,
    escape,
    incident::{Evidence, Finding, FindingEvent},
    model::{MonoTime, TcpState},
    table::{Socket, Table},
};

/// Longest reason of a rule that is shown, characters.
const REASON: usize = 200;

/// Lines of the stream between two headings: a screen's length.
const LINES_PER_HEADING: u32 = 40;

/// Writes reports for people.
pub struct Human<W: Write> {
    out: W,
    palette: Palette,
    zone: TimeZone,
    transitions: bool,
    explain: bool,
    lines: u32,
}

impl<W: Write> Human<W> {
    /// Writes to `out`; changes of state only if `transitions`. Times are the host's local ones.
    pub(crate) fn new(out: W, palette: Palette, transitions: bool) -> Self {
        let zone = TimeZone::system();
        Self { out, palette, zone, transitions, explain: false, lines: 0 }
    }

    /// Whether a finding that opens is followed by what happened to its socket, and its call stack.
    pub(crate) fn explain(self, explain: bool) -> Self {
        Self { explain, ..self }
    }

    fn transition(&mut self, seen: &SeenTransition, clock: WallClock) -> io::Result<()> {
        if self.lines.is_multiple_of(LINES_PER_HEADING) {
            let heading = format!(
                "{:<12}  {:>7} {:<15} {:>5}  {:<21}    {:<21}  {}",
                "TIME", "PID", "PROCESS", "FD", "LOCAL", "REMOTE", "STATE"
            );
            writeln!(self.out, "{}", self.palette.strong(&heading))?;
        }
        self.lines += 1;
        let (transition, owner) = (&seen.transition, seen.owner.as_ref());
        let number = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let state = format!("{:>11} → {}", transition.old, transition.new);
        let state = match transition.new {
            TcpState::CloseWait => self.palette.caution(&state),
            TcpState::Established => self.palette.good(&state),
            TcpState::Close | TcpState::TimeWait => self.palette.faint(&state),
            _ => state,
        };
        writeln!(
            self.out,
            "{:<12}  {:>7} {:<15} {:>5}  {:<21}  → {:<21}  {state}",
            self.time(transition.time, clock),
            number(owner.map(|owner| owner.process.pid.to_string())),
            number(owner.map(|owner| owner.comm.as_str().to_owned())),
            number(owner.and_then(|owner| owner.fd).map(|fd| fd.to_string())),
            end(seen.ends.local),
            end(seen.ends.remote),
        )
    }

    fn finding(&mut self, finding: &Finding, clock: WallClock) -> io::Result<()> {
        let time = self.time(finding.time, clock);
        // The mark says it already.
        let text = finding.message.strip_prefix("cleared: ").unwrap_or(&finding.message);
        let (mark, text) = match finding.event {
            FindingEvent::Opened => (self.palette.alarm("LEAK   "), self.palette.strong(text)),
            FindingEvent::Updated => (self.palette.caution("still  "), text.to_owned()),
            FindingEvent::Cleared => (self.palette.good("cleared"), text.to_owned()),
        };
        let kind = format!("{:<19}", finding.kind.code());
        writeln!(self.out, "{time:<12}  {mark} {} {text}", self.palette.caution(&kind))?;
        if finding.event == FindingEvent::Opened {
            let socket = finding.cookie().map(|cookie| format!("socket {:x}", cookie.0));
            let mut facts: Vec<String> = socket.into_iter().collect();
            facts.push(finding.remedy().to_owned());
            if finding.socket.is_some_and(|socket| socket.born_before_observer) {
                facts.push("older than this watch, so its age is at least this".to_owned());
            }
            if finding.evidence == Evidence::Reconstructed {
                facts.push("records were lost; confirmed by a snapshot".to_owned());
            }
            let facts = format!("{:42}{}", "", facts.join("; "));
            writeln!(self.out, "{}", self.palette.faint(&facts))?;
            if self.explain {
                self.history(finding)?;
            }
        }
        if self.explain && finding.event != FindingEvent::Cleared {
            self.stack(finding)?;
        }
        Ok(())
    }

    fn history(&mut self, finding: &Finding) -> io::Result<()> {
        for line in finding.proof.story(finding.time) {
            writeln!(self.out, "{}", self.palette.faint(&format!("{:42}{line}", "")))?;
        }
        Ok(())
    }

    fn stack(&mut self, finding: &Finding) -> io::Result<()> {
        for line in finding.proof.stack.iter().flat_map(|named| named.lines()) {
            writeln!(self.out, "{}", self.palette.faint(&format!("{:42}{line}", "")))?;
        }
        Ok(())
    }

    fn socket(&mut self, table: &Table, socket: &Socket, clock: WallClock) -> io::Result<()> {
        let holders: Vec<_> = table
            .holders(socket)
            .iter()
            .map(|holder| format!("{} (pid {}) fd {}", holder.comm, holder.process.pid, holder.fd))
            .collect();
        writeln!(
            self.out,
            "{:<12}  {:<11}  {:<21}  → {:<21}  {}",
            self.time(socket.state_since, clock),
            socket.state,
            end(socket.ends.local),
            end(socket.ends.remote),
            if holders.is_empty() { "no descriptor".to_owned() } else { holders.join(", ") },
        )
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let open: u64 = summary.open.values().sum();
        writeln!(self.out)?;
        let count = |of: &std::collections::BTreeMap<&'static str, u64>, kind: Kind| {
            of.get(kind.code()).copied().unwrap_or(0)
        };
        let counts = |kind| (kind, count(&summary.opened, kind), count(&summary.open, kind));
        let found = |(_, opened, open): &(Kind, u64, u64)| opened + open > 0;
        let lines: Vec<_> = Kind::ALL.into_iter().map(counts).filter(found).collect();
        if !lines.is_empty() {
            let heading = format!("{:<19} {:>7} {:>11}", "FINDING", "OPENED", "STILL OPEN");
            writeln!(self.out, "{}", self.palette.strong(&heading))?;
        }
        for (kind, opened, open) in &lines {
            let line = format!("{:<19} {opened:>7} {open:>11}", kind.code());
            let line = if *open > 0 { self.palette.alarm(&line) } else { line };
            writeln!(self.out, "{line}")?;
        }
        let others = Kind::ALL.len() - lines.len();
        let others = match lines.len() {
            0 => format!("no finding of any of the {others} kinds"),
            _ => format!("none of the other {others} kinds"),
        };
        writeln!(self.out, "{}", self.palette.faint(&others))?;
        let lost = format!("{} records lost", summary.lost);
        let lost = if summary.lost == 0 { lost } else { self.palette.alarm(&lost) };
        let verdict = match open {
            0 => self.palette.good("no descriptor is leaked"),
            1 => self.palette.alarm("1 finding is open"),
            _ => self.palette.alarm(&format!("{open} findings are open")),
        };
        writeln!(
            self.out,
            "\n{verdict}; {} sockets watched, {} changes of state seen, {lost}",
            summary.sockets, summary.transitions
        )?;
        for group in &summary.sites {
            writeln!(self.out, "{}", self.palette.caution(&group.text()))?;
        }
        for rule in &summary.ignored_by_rule {
            let noun = if rule.findings == 1 { "finding" } else { "findings" };
            let reason = escape::short(&rule.reason, REASON);
            let line = format!("{} {noun} ignored by a rule: {reason}", rule.findings);
            writeln!(self.out, "{}", self.palette.caution(&line))?;
        }
        Ok(())
    }

    fn time(&self, moment: MonoTime, clock: WallClock) -> String {
        let zoned = clock.wall(moment).to_zoned(self.zone.clone());
        zoned.strftime("%H:%M:%S%.3f").to_string()
    }
}

impl<W: Write> Sink for Human<W> {
    fn report(&mut self, report: Report<'_>, clock: WallClock) -> io::Result<()> {
        match report {
            Report::Ready { layers, sockets, names: _ } => {
                let noun = if sockets == 1 { "socket" } else { "sockets" };
                let line = format!(
                    "watching {sockets} {noun} (layers {}); a finding opens when its budget has \
                     run out. Ctrl-C ends the watch.",
                    layers.name()
                );
                writeln!(self.out, "{}", self.palette.faint(&line))
            }
            Report::Transition(_) if !self.transitions => Ok(()),
            Report::Transition(seen) => self.transition(seen, clock),
            Report::Finding(finding) => self.finding(finding, clock),
            Report::Loss { cause, lost } if cause == Counter::ConnectNotRead.name() => {
                let line = format!("{lost} MQTT client ids could not be read ({cause})");
                writeln!(self.out, "{}", self.palette.faint(&line))
            }
            Report::Loss { cause, lost } if cause == Counter::StackNotTaken.name() => {
                let line = format!("{lost} call stacks could not be taken ({cause})");
                writeln!(self.out, "{}", self.palette.faint(&line))
            }
            Report::Loss { cause, lost } => {
                let line = format!(
                    "{lost} records lost ({cause}); a snapshot sets the table right, and findings \
                     say so"
                );
                writeln!(self.out, "{}", self.palette.alarm(&line))
            }
            Report::Sockets { table, ports } => {
                for socket in table.sockets() {
                    if socket.ends.are_on(ports) {
                        self.socket(table, socket, clock)?;
                    }
                }
                Ok(())
            }
            Report::Summary(summary) => self.summary(summary),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn end(address: std::net::SocketAddr) -> String {
    match address.port() {
        0 if address.ip().is_unspecified() => "-".to_owned(),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::journal::finding_with_all_facts as finding;

    fn shown(explain: bool, event: FindingEvent) -> String {
        told(explain, &finding(Kind::CloseWait, event, 1))
    }

    fn told(explain: bool, finding: &Finding) -> String {
        let mut sink = Human::new(Vec::new(), Palette::default(), false).explain(explain);
        let clock = WallClock::at(MonoTime::from_nanos(0), jiff::Timestamp::UNIX_EPOCH);
        sink.report(Report::Finding(finding), clock).expect("a vector takes everything");
        String::from_utf8(sink.out).expect("it is text")
    }

    #[test]
    fn a_finding_that_opens_is_explained_where_that_is_wanted() {
        let story = format!(
            "{0:42}-15.0 s  a snapshot found it in CLOSE_WAIT\n{0:42} -5.0 s  records were lost\n",
            ""
        );
        let stack = format!(
            "{0:42}→ lease (pool.c:12)\n{0:42}  n\\u{{a}}ode+0x1189\n{0:42}no frame\\u{{a}}pointers\n",
            ""
        );
        assert!(shown(true, FindingEvent::Opened).ends_with(&(story + &stack)));
        assert!(!shown(false, FindingEvent::Opened).contains("→ lease"));
        let opened = finding(Kind::CloseWait, FindingEvent::Opened, 1);
        let brings = Finding { event: FindingEvent::Updated, ..opened };
        assert!(told(true, &brings).ends_with(&stack));
        assert!(!told(false, &brings).contains("→ lease"));
        assert!(!shown(true, FindingEvent::Cleared).contains("→ lease"));
        for (explain, event) in [
            (false, FindingEvent::Opened),
            (true, FindingEvent::Updated),
            (true, FindingEvent::Cleared),
        ] {
            assert!(!shown(explain, event).contains("a snapshot found"), "{event:?}");
        }
    }

    #[test]
    fn the_end_lists_what_was_found_and_no_rows_of_zeros() {
        let told = |summary: &Summary| {
            let mut sink = Human::new(Vec::new(), Palette::default(), false);
            sink.summary(summary).expect("a vector takes everything");
            String::from_utf8(sink.out).expect("it is text")
        };
        let mut summary = Summary::default();
        assert!(told(&summary).starts_with("\nno finding of any of the 20 kinds\n"));
        summary.opened.insert(Kind::CloseWait.code(), 4);
        summary.open.insert(Kind::CloseWait.code(), 1);
        summary.opened.insert(Kind::DuplicateClientId.code(), 2);
        let table = "
FINDING              OPENED  STILL OPEN
close-wait                4           1
duplicate-client-id       2           0
none of the other 18 kinds
";
        assert!(told(&summary).starts_with(table), "{}", told(&summary));
    }
}
