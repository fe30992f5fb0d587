//! PURE. `docs/metrics.md`, from the table of families.

use super::{
    MOST_CHARACTERS, MOST_PROCESSES, OTHERS,
    families::{Family, GROUPS},
};

/// The heads of the columns.
const HEAD: [&str; 5] = ["name", "type", "unit", "labels", "meaning"];

/// The whole page.
pub fn page() -> String {
    let mut page = format!(
        "# Metrics\n\n\
         Generated from `observer/src/sinks/metrics/families` by `cargo xtask tidy --fix`; do not \
         edit.\n\n\
         `GET /metrics` answers in the text format of Prometheus, version 0.0.4.\n\
         Values are base units. Counters begin at 0 with the daemon. A family without a source is \
         absent: without a pool all `sockwarden_pool_*` and `sockwarden_registry_*`, without \
         `kernel.bpf_stats_enabled` all `sockwarden_program_*`.\n\n\
         **Labels are bounded.** `state` of a socket is one of the eleven of node_exporter's \
         `tcpstat`, those without sockets included; a request that is no full socket yet \
         (NEW_SYN_RECV) counts as `syn_recv`, as the kernel shows it. `kind` is a code of \
         [findings.md](findings.md), `cause` a stable code. At most {MOST_PROCESSES} processes \
         have series of their own: those with open findings first, then the watched ones, then \
         those with most sockets. The others are summed as `comm=\"{OTHERS}\"` with an empty \
         `pid`. Names are escaped, and cut after {MOST_CHARACTERS} characters.\n\n\
         `iot_open_sockets_total` and `iot_zombie_sockets_total` are gauges although `_total` is \
         for counters: their names are older than the program. `promtool check metrics` complains \
         of these two and of nothing else.\n",
    );
    for group in GROUPS {
        page.push_str(&format!("\n## {}\n\n{}\n", group.title, table(group.families)));
        for family in group.families {
            page.push_str(&format!(
                "- **`{}`** {}\n  `{}`\n",
                family.name, family.advice, family.query
            ));
        }
    }
    page
}

/// A table whose columns are aligned in its source too.
fn table(families: &[Family]) -> String {
    let rows: Vec<[String; 5]> = families.iter().map(row).collect();
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    });
    let line = |cells: [&str; 5]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut table = line(HEAD) + &line(rule.each_ref().map(String::as_str));
    for row in &rows {
        table.push_str(&line(row.each_ref().map(String::as_str)));
    }
    table
}

fn row(family: &Family) -> [String; 5] {
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    [
        format!("`{}`", family.name),
        family.kind.name().to_owned(),
        family.unit.to_owned(),
        labels.join(" "),
        family.help.to_owned(),
    ]
}
