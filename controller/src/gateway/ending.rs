//! The signals that ask the program to end, and what each of them means.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who asks the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM: whoever runs us, and balancers have to learn of it.
    Terminate,
    /// SIGINT: somebody at a keyboard, who waits.
    Interrupt,
}

impl Ending {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// How long connections are still accepted, of the time that was asked for.
    pub(super) fn delay(self, asked: Duration) -> Duration {
        match self {
            Self::Terminate => asked,
            Self::Interrupt => Duration::ZERO,
        }
    }
}

/// The signals that ask a program to end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn wait(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_at_a_keyboard_does_not_wait_for_balancers() {
        let asked = Duration::from_secs(20);
        assert_eq!(Ending::Interrupt.delay(asked), Duration::ZERO);
        assert_eq!(Ending::Terminate.delay(asked), asked);
    }
}
