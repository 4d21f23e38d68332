//! Signs of life for work that takes long, on a terminal's stderr and nowhere else. Never speaks when
//! the work is quick.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::environment;

/// Work that takes longer than this is spoken of.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// Awaits `work`; shows `message` while it takes more than a second.
pub(crate) async fn spoken_of<F: Future>(message: &'static str, work: F) -> F::Output {
    if !environment::stderr_is_terminal() {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    if let Ok(result) = tokio::time::timeout(PATIENCE, &mut work).await {
        return result;
    }
    let spinner = ProgressBar::new_spinner().with_message(message);
    spinner.enable_steady_tick(TICK);
    let result = work.await;
    spinner.finish_and_clear();
    result
}

/// A bar for what goes over the network; it appears after a second.
pub(crate) fn transfer_bar(message: &'static str) -> ProgressBar {
    if !environment::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_message(message);
    match ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Awaits `work`, of which a bar is told; shows the bar while it takes more than a second.
pub(crate) async fn shown_by<F: Future>(bar: &ProgressBar, work: F) -> F::Output {
    let mut work = std::pin::pin!(work);
    if let Ok(result) = tokio::time::timeout(PATIENCE, &mut work).await {
        return result;
    }
    if environment::stderr_is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.enable_steady_tick(TICK);
    }
    let result = work.await;
    bar.finish_and_clear();
    result
}

/// A bar for an upload of so many bytes; invisible where stderr is no terminal.
pub(crate) fn upload_bar(total_bytes: u64) -> ProgressBar {
    if !environment::stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total_bytes).with_message("uploading");
    match ProgressStyle::with_template("{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
