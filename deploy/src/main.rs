//! `grid`: the whole street in one process.

use grid::demo::{Demo, Options, Pace};
use grid::street::Street;
use std::time::Duration;

#[tokio::main]
async fn main() {
    grid_service::log_to_stderr();
    let a: Vec<String> = std::env::args().collect();
    let dir = std::env::temp_dir().join(format!("grid-{}", std::process::id()));
    let options = Options {
        street: Street::built_in().unwrap(),
        limit_w: a[2].parse().unwrap(),
        pace: Pace::Within(Duration::from_secs(a[1].parse().unwrap())),
        listen: None,
        data_dir: dir,
    };
    let demo = Demo::start(options).await.unwrap();
    println!("{} {}", demo.address(), demo.time_factor());
    tokio::select! { _ = demo.day_is_over() => {}, _ = async { loop { tokio::time::sleep(Duration::from_secs(1)).await; println!("{:?}", demo.progress()); } } => {} }
    let r = demo.finish().await.unwrap();
    println!("{}", serde_json::to_string_pretty(&r).unwrap());
}
