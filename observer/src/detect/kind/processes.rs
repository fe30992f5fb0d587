//! What is said about the kinds that are about a process and where it connects to.

use std::time::Duration;

use super::{Description, Kind, Severity};

pub(super) const CLOSE_WAIT_BUILDUP: Description = Description {
    kind: Kind::CloseWaitBuildup,
    code: "close-wait-buildup",
    severity: Severity::Error,
    message_id: 0x8a11_9b9e_16bc_4732_af7b_7676_d015_b0dc,
    default_budget: Duration::from_secs(10),
    meaning: "More than 100 sockets of one process are in CLOSE_WAIT, and have been for the \
        whole budget, though perhaps different ones all the time: the process falls behind \
        with closing what its peers have closed.",
    how_it_comes_about: "The event loop is blocked or overloaded, or connections are closed by the peer and \
        opened again as fast as the program can handle. If the same sockets stay, each of \
        them is a close-wait finding too.",
    what_to_do: "Look at the reconnects first: takeover-duel and reconnect-storm say whether \
        clients fight. Otherwise take a stack trace of the event loop.",
    how_to_tune: "After a broker restarts, thousands in CLOSE_WAIT for less than a second are \
        normal: do not make the budget shorter than a few seconds.",
};

pub(super) const EXHAUSTED: Description = Description {
    kind: Kind::Exhausted,
    code: "exhausted",
    severity: Severity::Critical,
    message_id: 0xbc67_ba94_637d_4efa_a09e_467a_da67_9f81,
    default_budget: Duration::ZERO,
    meaning: "The kernel refused the process a descriptor (EMFILE: its own limit is reached, or \
        ENFILE: the host's) or a local port (EADDRNOTAVAIL). It is seen at the moment of \
        the refusal, which a sample every 15 seconds misses.",
    how_it_comes_about: "Descriptors leak, or the limit is too small for the number of connections. Ports \
        run out towards one destination when all of the range is used from one address of \
        ours; connections in TIME_WAIT count for a minute. EMFILE and ENFILE look alike \
        from outside: ENFILE is said when the process was far below its own limit between \
        two refusals.",
    what_to_do: "See what the open findings of this process say; restarting it frees the \
        descriptors. Raise LimitNOFILE of the unit if the number of connections is meant; \
        against ENFILE find who has most (sysctl fs.file-nr) or raise fs.file-max. \
        Against a lack of ports: more source addresses or a larger ip_local_port_range.",
    how_to_tune: "There is no reason to allow any. It clears when nothing was refused for a minute.",
};

pub(super) const FD_LIMIT_LOW: Description = Description {
    kind: Kind::FdLimitLow,
    code: "fd-limit-low",
    severity: Severity::Warning,
    message_id: 0xfab3_6728_a78b_4b7e_a787_c0de_2f96_0063,
    default_budget: Duration::ZERO,
    meaning: "The process has 1,000 TCP sockets or more, and its limit of descriptors (soft \
        RLIMIT_NOFILE) is 8,192 or less: a reconnect storm that doubles the sockets for a \
        moment may end in EMFILE. Limits below 64 are not judged: programs set them to \
        lock themselves in.",
    how_it_comes_about: "Most services start with a soft limit of 1,024 that they raise themselves or not. \
        /etc/security/limits.conf does not reach services that systemd starts.",
    what_to_do: "Set LimitNOFILE= in a drop-in of the unit (systemctl edit), to three times the \
        largest number of connections, and restart it. prlimit --pid PID \
        --nofile=SOFT:HARD raises it in the running process.",
    how_to_tune: "A process whose number of connections is bounded by design needs no more: ignore \
        it. It clears when the limit is raised, or below 900 sockets.",
};

pub(super) const FD_PRESSURE: Description = Description {
    kind: Kind::FdPressure,
    code: "fd-pressure",
    severity: Severity::Error,
    message_id: 0xa712_755f_6cac_44d5_a9d5_2695_12e7_4f7b,
    default_budget: Duration::ZERO,
    meaning: "The process uses 80 % or more of its limit of descriptors, or will reach the limit \
        within 15 minutes if it goes on as in the last minutes. The detail says what \
        grows: connections by destination, other sockets, pipes or files. A forecast rests \
        on a minute of steady growth at least, reaches three times as far as what it rests \
        on, and is made only where the number has left a level for one that it never had. \
        A start, a wave and a sawtooth have none.",
    how_it_comes_about: "Descriptors leak, or load grows beyond what the limit was made for.",
    what_to_do: "What grows says where to look: connections to one destination are usually an open \
        finding too, pipes and files are not this program's business to judge but their \
        number is. Raise LimitNOFILE if the use is meant.",
    how_to_tune: "A program that fills its limit by design (a pool with a fixed size) can be given a \
        limit with more headroom, or be ignored. It clears 5 % under the bar, when no end \
        is in sight within 20 minutes; what came back within 5 minutes must stay away for \
        one. Limits below 64 are not judged, nor is a process with more than its limit: it \
        has lowered it on purpose.",
};

pub(super) const OVERGROWTH: Description = Description {
    kind: Kind::Overgrowth,
    code: "overgrowth",
    severity: Severity::Error,
    message_id: 0xac8e_fe12_1c59_49f1_aa2d_de83_458b_fed0,
    default_budget: Duration::from_secs(10),
    meaning: "The process has more live connections to one MQTT broker than its fleet has \
        devices, or their number has left a level at which it stood and climbs while none \
        is closed. This is the silent leak: with unique client ids no broker ends the old \
        connection, and every count of errors stays at zero.",
    how_it_comes_about: "A client object is made anew for a device that reconnects, each time with another \
        client id (a time or a random suffix), and the old one lives on with its own \
        pings.",
    what_to_do: "Use one stable client id for each device, so that the broker ends the older \
        session, and destroy the old client before a new one is made.",
    how_to_tune: "Declare the size of the fleet where it is known: then the limit is exact. Without \
        it a climb is judged, of ten connections and a tenth or more, from the highest number \
        at which the fleet has stood for half a minute. It is over when the number is below \
        that again, so a fleet that is put into service in steps is reported once for each \
        step until its size is declared. More than one new connection a second for each \
        device is a fleet that starts, and says nothing.",
};

pub(super) const PORT_PRESSURE: Description = Description {
    kind: Kind::PortPressure,
    code: "port-pressure",
    severity: Severity::Warning,
    message_id: 0x5796_a670_482c_490e_ad97_82bf_cdc8_3011,
    default_budget: Duration::ZERO,
    meaning: "Of the local ports that one address of ours has towards one destination, so many \
        are in use that connect(2) soon has to search the second half of the range, where \
        it takes some 25 times as long. Sockets in TIME_WAIT count: they keep their port \
        for 60 seconds, but over the loopback interface, where it is used again at once.",
    how_it_comes_about: "The kernel gives connect(2) the ports with the parity of the first port of the \
        range (even ones by default), which is half of ip_local_port_range (14,116 by \
        default), and then tries those of the other half one by one. \
        One process with 12,000 connections to one broker is near that; so are short \
        connections that this side closes.",
    what_to_do: "Use more source addresses (each has a range of its own), a second address of the \
        broker, or a larger ip_local_port_range. Reuse connections instead of opening one \
        for each request.",
    how_to_tune: "The level is 80 % of the half; it clears 5 % below. A host whose connections to one \
        destination are bounded below the half can be ignored. Ports whose sockets are all \
        in TIME_WAIT have no process and are no finding by themselves.",
};

pub(super) const RECONNECT_STORM: Description = Description {
    kind: Kind::ReconnectStorm,
    code: "reconnect-storm",
    severity: Severity::Warning,
    message_id: 0x0b80_a255_53a1_4945_a932_58ef_7777_682c,
    default_budget: Duration::ZERO,
    meaning: "The process has opened more than 500 connections within 5 seconds.",
    how_it_comes_about: "A broker or a network came back and every client reconnects at once without a \
        limit, or clients fight over a session and reconnect again and again.",
    what_to_do: "Limit the rate of new connections, with a random part in each wait, and hold the \
        number of unfinished connects below the listen backlog of the server. See \
        takeover-duel if it does not end.",
    how_to_tune: "Programs that open a connection for each request do this all day: ignore them by \
        name, or mend them.",
};

pub(super) const STALE_GENERATION: Description = Description {
    kind: Kind::StaleGeneration,
    code: "stale-generation",
    severity: Severity::Error,
    message_id: 0x45ac_16b9_c20d_4c21_af8a_7abf_f2e9_1ac7,
    default_budget: Duration::from_secs(60),
    meaning: "The process keeps opening connections to one destination while older ones there, \
        silent or half-closed, are never closed nor used again: three generations of them \
        or more, and there are more and more. A generation is what was opened within ten \
        seconds.",
    how_it_comes_about: "A client, session or pool object is made for each piece of work and dropped \
        without being closed; or a reconnect makes a new connection and forgets the old \
        one.",
    what_to_do: "Close the old connection before a new one is opened, or make one client object and \
        share it (requests.Session, aiohttp.ClientSession, an HTTP agent with keep-alive).",
    how_to_tune: "The budget is how long an older connection must have been silent. Raise it for \
        programs that keep quiet connections on purpose and add to them all the time: a \
        proxy with one for each quiet client, long polls, one client for each new thread. \
        Pools that use or replace what is idle, and fleets that are complete, need nothing.",
};

pub(super) const TAKEOVER_DUEL: Description = Description {
    kind: Kind::TakeoverDuel,
    code: "takeover-duel",
    severity: Severity::Error,
    message_id: 0xdd2e_e150_d284_4277_a89c_1af4_0ce8_fcc9,
    default_budget: Duration::ZERO,
    meaning: "Connections to one MQTT broker are ended by the peer soon after they were made, \
        because another connection took over the session, and are made again, again and \
        again, while the number of sockets stays the same: two clients fight for one \
        session. A client id counts if it lost its session twice or more. Where client ids \
        cannot be read (TLS, WebSocket), short lives and the moments at which they end have \
        to rule chance out.",
    how_it_comes_about: "A second client with the same client id is made while the first one lives on (a \
        client object that was replaced but never ended, and that reconnects by itself), \
        or two processes use the same client ids. Each one's reconnect ends the other's \
        session; neither gives up.",
    what_to_do: "End the old client for good before a new one is made: with a reconnecting client \
        that means its end or destroy call, dropping the object is not enough. The detail \
        names the client ids. If two processes take part, one of them has to be stopped.",
    how_to_tune: "Five take-overs within 30 seconds are the least. A single take-over after a \
        restart is normal and says nothing. Without client ids a fast storm is only a \
        reconnect-storm: where connections are made all the time, moments prove nothing.",
};
