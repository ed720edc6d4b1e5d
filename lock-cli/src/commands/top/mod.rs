//! `turnlock top`: a live view of the locks, for a terminal.

mod model;
mod screen;
mod view;

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::{Global, Top};
use crate::commands::names::parse_prefix;
use crate::coordinator::{Choice, choose};
use crate::exit::{Exit, Failure};
use crate::sampling::{Sample, Sampler};

use self::model::{Model, Sort};
use self::screen::Screen;

/// The pause between two pictures, for times that go on and for a window of another size.
const REDRAW: Duration = Duration::from_millis(250);

/// The signals that end a program, and whose number is its status.
const DEADLY: [(SignalKind, u8); 4] = [
    (SignalKind::interrupt(), 2),
    (SignalKind::terminate(), 15),
    (SignalKind::hangup(), 1),
    (SignalKind::quit(), 3),
];

/// A reading, and the contenders that it found.
type Update = Result<(Sample, Vec<crate::changes::Seen>), String>;

pub async fn top(global: Global, args: Top) -> Result<Exit, Failure> {
    let prefix = parse_prefix(&args.prefix)?;
    require_terminal(&global)?;
    let place = match choose(global.backend.as_deref())? {
        Choice::Named(url, _) => url,
        Choice::Own => "your own coordinator".to_owned(),
    };
    let url = global.backend.as_deref();
    let sampler = Sampler::connect(url, prefix, args.interval).await?;
    let mut signals = DeadlySignals::install()?;
    let (sender, updates) = mpsc::channel(1);
    let reading = tokio::spawn(keep_reading(sampler, sender));
    let mut screen = Screen::open()?;
    let keys = screen::read_keys()?;
    let exit = tokio::select! {
        status = signals.wait() => Ok(Exit::Of(status)),
        exit = show(&mut screen, Model::new(place), updates, keys) => exit,
    };
    reading.abort();
    screen.close()?;
    exit
}

/// Refuses to draw where nobody would see it.
fn require_terminal(global: &Global) -> Result<(), Failure> {
    if !global.json && io::stdout().is_terminal() && io::stdin().is_terminal() {
        return Ok(());
    }
    let message = match global.json {
        true => "`top` is a picture, which has no JSON",
        false => "`top` needs a terminal as its stdin and stdout",
    };
    Err(Failure::new(Exit::Usage, message).hint(
        "for programs, `turnlock watch --json` prints what happens, and `turnlock ls --json` the \
         locks in use",
    ))
}

async fn keep_reading(mut sampler: Sampler, updates: mpsc::Sender<Update>) {
    loop {
        let (update, took) = match sampler.read().await {
            Ok(sample) => {
                let took = sample.took;
                let contenders = sampler.snapshot().contenders().cloned().collect();
                (Ok((sample, contenders)), took)
            }
            Err(failure) => (Err(failure.message), Duration::ZERO),
        };
        if updates.send(update).await.is_err() {
            return;
        }
        tokio::time::sleep(sampler.pause(took)).await;
    }
}

/// Draws until the user has seen enough.
async fn show(
    screen: &mut Screen,
    mut model: Model,
    mut updates: mpsc::Receiver<Update>,
    mut keys: mpsc::Receiver<Event>,
) -> Result<Exit, Failure> {
    loop {
        screen.draw(&mut model)?;
        tokio::select! {
            Some(update) = updates.recv() => model.update(update),
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if let Some(exit) = handle_key(&mut model, key) {
                        return Ok(exit);
                    }
                }
                Some(_) => {}
                // The terminal is gone.
                None => return Ok(Exit::Success),
            },
            () = tokio::time::sleep(REDRAW) => {}
        }
    }
}

/// Does what a key asks for. Returns the exit, if it is to leave.
fn handle_key(model: &mut Model, key: KeyEvent) -> Option<Exit> {
    match key.code {
        // The terminal makes no signal of it while keys are read one by one.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
            return Some(Exit::Of(128 + 2));
        }
        KeyCode::Char('q') | KeyCode::Esc => return Some(Exit::Success),
        KeyCode::Char('w') => model.sort_by(Sort::Waiters),
        KeyCode::Char('h') => model.sort_by(Sort::Hold),
        KeyCode::Char('t') => model.sort_by(Sort::Wait),
        KeyCode::Char('n') => model.sort_by(Sort::Name),
        KeyCode::Down => model.scroll(1),
        KeyCode::Up => model.scroll(-1),
        KeyCode::PageDown => model.scroll(10),
        KeyCode::PageUp => model.scroll(-10),
        KeyCode::Home => model.scroll(isize::MIN),
        _ => {}
    }
    None
}

/// The signals that end the command, so that the terminal is restored before.
struct DeadlySignals(Vec<(Signal, u8)>);

impl DeadlySignals {
    fn install() -> Result<Self, Failure> {
        let installed = DEADLY.map(|(kind, number)| Ok((signal(kind)?, number)));
        let installed: io::Result<Vec<_>> = installed.into_iter().collect();
        let failed = |error| Failure::from_system("cannot catch signals", &error);
        Ok(DeadlySignals(installed.map_err(failed)?))
    }

    /// Waits for one of them, and returns the status of a program that it ends.
    async fn wait(&mut self) -> u8 {
        let waits = self.0.iter_mut().map(|(signal, number)| {
            Box::pin(async move {
                signal.recv().await;
                128 + *number
            })
        });
        futures_util::future::select_all(waits).await.0
    }
}
