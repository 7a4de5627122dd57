//! The S3 server of the tests as a program, for chaos: keeps its objects below FOLDER/BUCKET, prints as JSON what a client
//! needs in its environment, and runs until it is killed.
//!
//! `s3_server FOLDER ADDRESS`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for tests")]

use std::collections::BTreeMap;
use std::path::Path;

fn main() {
    let mut words = std::env::args().skip(1);
    let (folder, address) = (words.next().unwrap(), words.next().unwrap());
    let server = testkit::s3::S3Server::over(Path::new(&folder), address.parse().unwrap());
    let environment: BTreeMap<_, _> = server.environment().into();
    println!("{}", serde_json::to_string(&environment).unwrap());
    loop {
        std::thread::park();
    }
}
