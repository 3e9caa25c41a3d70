//! Log lines: text or JSON, on standard output. What they hold is decided where they are written; never
//! a token or message text.

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel};

/// Begins to write log lines: Tidings' own from a level on, those of libraries from `warn`.
pub fn start(level: LogLevel, format: LogFormat) {
    let filter = EnvFilter::new(format!("warn,tidings={}", level.as_str()));
    let filter = if level == LogLevel::Off { EnvFilter::new("off") } else { filter };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    // A second start, as in tests, changes nothing.
    let _ = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}

/// Writes a line that is there at every log level.
pub fn announce(format: LogFormat, message: &str) {
    match format {
        LogFormat::Text => println!("{message}"),
        LogFormat::Json => {
            let timestamp = crate::clock::rfc3339(crate::clock::Clock::system().now_ms());
            println!("{}", serde_json::json!({ "timestamp": timestamp, "level": "INFO", "message": message }));
        }
    }
}
