//! What was asked for, what became of it, and what MQTT promises about it.

use super::wire::Wire;
use crate::error::{CallerError, Error};
use crate::message::QoS;
use crate::request::{Delivery, Ticket};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Numbered messages in both directions, and the answers to all requests.
#[derive(Debug)]
pub(super) struct Ledger {
    requests: Vec<Asked>,
    /// Those without an answer.
    pending: Vec<usize>,
    messages: Vec<Sent>,
    /// Messages that the broker owes to a device.
    owed: usize,
    accounts: Vec<Account>,
}

/// A request of the application.
#[derive(Debug)]
struct Asked {
    device: usize,
    /// `None` for a change of a subscription.
    qos: Option<QoS>,
    delivery: Delivery,
    outcome: Option<Result<(), Error>>,
    /// How often the broker took it for a message not seen before.
    recorded: u32,
}

/// A message for a device.
#[derive(Debug)]
struct Sent {
    device: usize,
    qos: QoS,
    /// The broker promised it: QoS above 0, and a session with a subscription.
    promised: bool,
    delivered: u32,
}

/// What is known of one device.
#[derive(Clone, Debug)]
struct Account {
    /// The broker's session was lost, so messages to the device may be, and QoS 2 may be doubled.
    session_lost: bool,
    /// The device left the pool at some time, and took its half of the exchanges with it.
    left: bool,
    /// It is in the pool.
    present: bool,
    /// The last number that came for the first time, for each quality of service.
    up: [Option<usize>; 3],
    down: [Option<usize>; 3],
}

impl Ledger {
    pub(super) fn new(devices: usize) -> Self {
        let account = Account {
            session_lost: false,
            left: false,
            present: true,
            up: [None; 3],
            down: [None; 3],
        };
        Self {
            requests: Vec::new(),
            pending: Vec::new(),
            messages: Vec::new(),
            owed: 0,
            accounts: vec![account; devices],
        }
    }

    /// A request, under a number.
    pub(super) fn ask(&mut self, device: usize, qos: Option<QoS>) -> (usize, Ticket) {
        let (ticket, delivery) = Ticket::new();
        let number = self.requests.len();
        self.requests.push(Asked { device, qos, delivery, outcome: None, recorded: 0 });
        self.pending.push(number);
        (number, ticket)
    }

    /// The pool did not take the last request, and said so at the call.
    pub(super) fn refused(&mut self) {
        self.requests.pop();
        self.pending.pop();
    }

    /// A message to a device, under a number.
    pub(super) fn message(&mut self, device: usize, qos: QoS, promised: bool) -> usize {
        self.owed += usize::from(promised);
        self.messages.push(Sent { device, qos, promised, delivered: 0 });
        self.messages.len() - 1
    }

    /// The broker's session of a device is gone, with all that was in it.
    pub(super) fn session_lost(&mut self, device: usize) {
        self.accounts[device].session_lost = true;
        self.forgive(device);
    }

    pub(super) fn left(&mut self, device: usize) {
        let account = &mut self.accounts[device];
        (account.left, account.present) = (true, false);
    }

    pub(super) fn has_left(&self, device: usize) -> bool {
        self.accounts[device].left
    }

    pub(super) fn joined(&mut self, device: usize) {
        self.accounts[device].present = true;
    }

    /// The device will not come back.
    pub(super) fn forgive(&mut self, device: usize) {
        for sent in self.messages.iter_mut().filter(|sent| sent.device == device) {
            self.owed -= usize::from(std::mem::take(&mut sent.promised) && sent.delivered == 0);
        }
    }

    /// The broker has a publish of the pool that it did not know.
    pub(super) fn record(&mut self, wire: &mut Wire, device: usize, qos: QoS, number: usize) {
        let account = &mut self.accounts[device];
        let Some(asked) = self.requests.get_mut(number).filter(|asked| asked.device == device)
        else {
            return wire.complain(Some(device), format!("nobody published {number}"));
        };
        asked.recorded += 1;
        if asked.qos != Some(qos) {
            wire.complain(Some(device), format!("publish {number} came with {qos:?}"));
        }
        if asked.recorded > 1 {
            let may_double = match qos {
                QoS::AtMostOnce => false,
                QoS::AtLeastOnce => true,
                QoS::ExactlyOnce => account.session_lost || account.left,
            };
            if !may_double {
                wire.complain(Some(device), format!("publish {number} of {qos:?} is doubled"));
            }
        } else if account.up[qos as usize].replace(number) > Some(number) {
            wire.complain(Some(device), format!("publish {number} of {qos:?} came out of order"));
        }
    }

    /// The application has a message.
    pub(super) fn deliver(&mut self, wire: &mut Wire, device: usize, qos: QoS, number: usize) {
        let account = &mut self.accounts[device];
        let is_it = |sent: &&mut Sent| sent.device == device && sent.qos == qos;
        let Some(sent) = self.messages.get_mut(number).filter(is_it) else {
            return wire.complain(Some(device), format!("nobody sent message {number} of {qos:?}"));
        };
        sent.delivered += 1;
        if sent.delivered > 1 {
            let may_double = match qos {
                QoS::AtMostOnce => false,
                QoS::AtLeastOnce => true,
                QoS::ExactlyOnce => account.left,
            };
            if !may_double {
                wire.complain(Some(device), format!("message {number} of {qos:?} is doubled"));
            }
            return;
        }
        self.owed -= usize::from(sent.promised);
        if account.down[qos as usize].replace(number) > Some(number) {
            wire.complain(Some(device), format!("message {number} of {qos:?} came out of order"));
        }
    }

    /// Looks at the answers that came since it last looked.
    pub(super) fn look(&mut self, wire: &mut Wire) {
        let mut context = Context::from_waker(Waker::noop());
        let (requests, accounts) = (&mut self.requests, &self.accounts);
        self.pending.retain(|number| {
            let asked = &mut requests[*number];
            let Poll::Ready(outcome) = Pin::new(&mut asked.delivery).poll(&mut context) else {
                return true;
            };
            let account = &accounts[asked.device];
            if let Err(complaint) = asked.check(account, &outcome) {
                wire.complain(Some(asked.device), format!("request {number} {complaint}"));
            }
            asked.outcome = Some(outcome);
            false
        });
    }

    /// Whether all requests are answered, and all messages delivered that were promised.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.owed == 0
    }

    /// What is open, for people.
    pub(super) fn open(&self) -> String {
        let pending: Vec<_> = self
            .pending
            .iter()
            .map(|number| format!("{number} of d{}", self.requests[*number].device))
            .collect();
        let is_owed = |(number, sent): (usize, &Sent)| {
            (sent.promised && sent.delivered == 0).then(|| format!("{number} to d{}", sent.device))
        };
        let owed: Vec<_> = self.messages.iter().enumerate().filter_map(is_owed).collect();
        format!("requests without an answer: {pending:?}, messages not delivered: {owed:?}")
    }

    /// How many requests and messages there were.
    pub(super) fn count(&self) -> usize {
        self.requests.len() + self.messages.len()
    }
}

impl Asked {
    fn check(&self, account: &Account, outcome: &Result<(), Error>) -> Result<(), String> {
        match (outcome, self.qos) {
            (Err(Error::Caller(CallerError::Closed)), _) => {
                Err("was dropped without an answer".to_owned())
            }
            (Ok(()), Some(QoS::AtLeastOnce | QoS::ExactlyOnce)) if self.recorded == 0 => {
                Err("was answered and the broker never had it".to_owned())
            }
            // Lost with its session, which is what QoS 0 allows.
            (Ok(()), _) | (Err(_), Some(QoS::AtMostOnce)) => Ok(()),
            (Err(_), _) if account.left => Ok(()),
            (Err(error), _) => Err(format!("failed: {error}")),
        }
    }
}
