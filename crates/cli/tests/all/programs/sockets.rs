//! A client as anybody would write it, with the sockets of Rust's standard library. Its arguments are what to do and with
//! whom, or its input where it has none; its output is what came of it, the error's kind where it failed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        let input = io::read_to_string(io::stdin()).unwrap();
        arguments = input.split_whitespace().map(str::to_owned).collect();
    }
    let done = match (arguments[0].as_str(), arguments[1].as_str()) {
        ("tcp", address) => tcp(address),
        ("udp", address) => udp(address),
        ("listen", address) => TcpListener::bind(address).map(|_| "listening".to_owned()),
        ("bind", address) => UdpSocket::bind(address).map(|_| "bound".to_owned()),
        ("sleep", seconds) => sleep(seconds),
        ("hold", address) => hold(address),
        (other, _) => panic!("{other}"),
    };
    match done {
        Ok(text) => println!("{text}"),
        Err(error) => println!("{:?}: {error}", error.kind()),
    }
}

fn tcp(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"hello")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn udp(address: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(b"hello", address)?;
    let mut buffer = [0; 100];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Sleeps beside a socket that nobody sends to.
fn sleep(seconds: &str) -> io::Result<String> {
    let _socket = UdpSocket::bind("0.0.0.0:0")?;
    std::thread::sleep(std::time::Duration::from_secs(seconds.parse().unwrap()));
    Ok("slept".into())
}

/// As many connections as there are to be had.
fn hold(address: &str) -> io::Result<String> {
    let mut held = Vec::new();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => held.push(stream),
            Err(error) => return Ok(format!("{} connections, then {:?}", held.len(), error.kind())),
        }
    }
}
