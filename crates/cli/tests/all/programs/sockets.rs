//! A client as anybody would write it, with the sockets of Rust's standard library. Its arguments are what to do and with
//! whom; its output is what came of it, the error's kind where it failed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match (arguments[0].as_str(), arguments[1].as_str()) {
        ("tcp", address) => tcp(address),
        ("udp", address) => udp(address),
        ("listen", address) => TcpListener::bind(address).map(|_| "listening".to_owned()),
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
