//! The program of the test images: does what `MODE` says, and tells what it finds of the container that it is in. Nothing
//! but the standard library, so that it is alone in its image.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn main() {
    let mode = std::env::var("MODE").unwrap_or_default();
    match mode.as_str() {
        "echo" => drop(io::copy(&mut io::stdin(), &mut io::stdout())),
        "exit" => std::process::exit(text().trim().parse().expect("a number")),
        "log" => {
            eprintln!("first\n\u{1b}[31mred");
            print!("out");
            eprint!("last");
        }
        "events" => events(),
        "sleep" => loop {
            std::thread::sleep(Duration::from_secs(60));
        },
        "flood" => loop {
            let _ = io::stdout().write_all(&[b'x'; 1 << 16]);
        },
        "count" => {
            // Until nobody listens any more.
            for number in 0.. {
                if writeln!(io::stdout(), "{number}").and_then(|()| io::stdout().flush()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        "memory" => {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            loop {
                kept.push(vec![1; 1 << 20]);
                std::hint::black_box(&kept);
            }
        }
        "look" => look(),
        "serve" => serve(),
        "banner" => {
            println!("ready");
            serve();
        }
        // A lot of output, and none of its input.
        "unread" => io::stdout().write_all(&vec![b'y'; 1_000_000]).expect("stdout"),
        "touch" => {
            std::hint::black_box(vec![1_u8; 24 << 20]);
            std::thread::sleep(Duration::from_millis(300));
        }
        // A tunnel that stays open.
        "hold" => {
            let mut tunnel = open(text().trim(), "").expect("a tunnel").0;
            println!("open");
            io::stdout().flush().expect("stdout");
            drop(tunnel.read_to_end(&mut Vec::new()));
        }
        "threads" => threads(),
        other => panic!("no mode `{other}`"),
    }
}

fn text() -> String {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).expect("text");
    text
}

/// Reports on its work as MentatLab's agents do; what is no report is output.
fn events() {
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("a line");
    let mut rest = Vec::new();
    io::stdin().read_to_end(&mut rest).expect("the rest");
    println!(r#"{{"type":"log","level":"info","message":"begun"}}"#);
    for percent in [50, 100] {
        println!(r#"{{"type":"progress","data":{{"percent":{percent}}}}}"#);
        io::stdout().flush().expect("stdout");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("line={} rest={}", line.trim_end(), rest.len());
}

/// Reads one input after another, a JSON string each that says what to do, and answers as it says, or not.
fn serve() {
    for (number, line) in (1..).zip(io::stdin().lines()) {
        let line = line.expect("a line");
        let (what, rest) = match line.trim_matches('"').split_once(' ') {
            Some((what, rest)) => (what, rest),
            None => (line.trim_matches('"'), ""),
        };
        match what {
            "count" => println!("{number}"),
            "tunnel" => {
                let came = tunnel(rest).unwrap_or_else(|error| format!("{:?}", error.kind()));
                println!("{number} {came}");
            }
            "env" => println!("{number} {}", std::env::var(rest).unwrap_or_default()),
            "who" => println!("{number} {}", user()),
            "watch" => println!("{number} {}", watch()),
            // Goes on behind its answer, and reads the next input all the same.
            "spin" => {
                std::thread::spawn(|| loop {
                    std::hint::spin_loop();
                });
                println!("{number}");
            }
            "log" => {
                eprintln!("{rest}");
                println!("{number}");
            }
            "report" => println!("{{\"type\":\"progress\",\"data\":{{\"percent\":50}}}}\n{number}"),
            "twice" => println!("{number}\n{number}"),
            "late" => {
                println!("{number}");
                std::thread::sleep(Duration::from_millis(50));
                println!("late");
            }
            "die" => {
                println!("{number}");
                std::process::exit(0);
            }
            "exit" => std::process::exit(rest.parse().expect("a number")),
            "hang" => std::thread::sleep(Duration::from_secs(600)),
            "slow" => {
                std::thread::sleep(Duration::from_millis(rest.parse().expect("a number")));
                println!("{number}");
            }
            "flood" => loop {
                print!("x");
            },
            "memory" => drop(std::hint::black_box(vec![1_u8; 1 << 30])),
            other => panic!("nothing to do is called `{other}`"),
        }
    }
}

/// Whom it runs as.
fn user() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a user");
    line.split_whitespace().next().expect("a number").to_owned()
}

/// Takes all the watchers of files that its user may have, and keeps them; answers how many those were.
fn watch() -> usize {
    // inotify_init1
    let number = if cfg!(target_arch = "x86_64") { 294 } else { 26 };
    // SAFETY: it has no pointers.
    (0..100_000).take_while(|_| unsafe { system_call(number, 0, 0) } >= 0).count()
}

/// As many threads as it is given.
fn threads() {
    let mut threads = 0;
    while threads < 1_000 {
        let started = std::thread::Builder::new().stack_size(64 << 10).spawn(|| loop {
            std::thread::sleep(Duration::from_secs(60));
        });
        if started.is_err() {
            break;
        }
        threads += 1;
    }
    print!("{threads}");
    io::stdout().flush().expect("stdout");
    std::process::exit(0);
}

/// One fact a line: what it may do, and what comes of trying the rest. Each line of the input is one more thing to try.
/// Asks the kernel for something that no container is to have.
fn call(name: &str) -> io::Result<String> {
    const USER_NAMESPACE: usize = 0x1000_0000;
    const SIGCHLD: usize = 17;
    let (number, first, second): (usize, usize, usize) = match (name, cfg!(target_arch = "x86_64")) {
        ("unshare", true) => (272, USER_NAMESPACE, 0),
        ("unshare", false) => (97, USER_NAMESPACE, 0),
        ("clone", true) => (56, USER_NAMESPACE | SIGCHLD, 0),
        ("clone", false) => (220, USER_NAMESPACE | SIGCHLD, 0),
        // Joins a session's keyring.
        ("keyctl", true) => (250, 1, 0),
        ("keyctl", false) => (219, 1, 0),
        // Between a virtual machine and its host, a stream.
        ("vsock", true) => (41, 40, 1),
        ("vsock", false) => (198, 40, 1),
        ("clone3", _) => (435, 0, 0),
        ("later", _) => (5000, 0, 0),
        other => panic!("no call `{other:?}`"),
    };
    // SAFETY: none of these touches this program's memory: they have no pointers, and a child would go on in a copy.
    let answer: isize = unsafe { system_call(number, first, second) };
    match answer {
        // In the child that was not to be.
        0 if name == "clone" => std::process::exit(0),
        error if error < 0 => Err(io::Error::from_raw_os_error(i32::try_from(-error).expect("a number"))),
        _ => Ok("done".to_owned()),
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: usize, first: usize, second: usize) -> isize {
    let answer: isize;
    // SAFETY: as the caller says; the kernel keeps all registers but these.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") first, in("rsi") second,
            in("rdx") 0, in("r10") 0, in("r8") 0, out("rcx") _, out("r11") _, options(nostack));
    }
    answer
}

#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: usize, first: usize, second: usize) -> isize {
    let answer: isize;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("svc 0", in("x8") number, inlateout("x0") first as isize => answer, in("x1") second,
            in("x2") 0, in("x3") 0, in("x4") 0, options(nostack));
    }
    answer
}

fn look() {
    for line in fs::read_to_string("/proc/self/status").expect("status").lines() {
        let told = ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:"];
        if told.iter().any(|begin| line.starts_with(begin)) {
            println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    for line in fs::read_to_string("/proc/net/dev").expect("devices").lines().skip(2) {
        println!("device {}", line.split(':').next().unwrap_or_default().trim());
    }
    for line in fs::read_to_string("/proc/self/limits").expect("limits").lines() {
        println!("limit {}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    for line in text().lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let came = match what {
            "write" => fs::write(rest, "written").map(|()| "done".to_owned()),
            "read" => fs::read_to_string(rest),
            "list" => fs::read_dir(rest).map(|entries| format!("{} entries", entries.count())),
            "fill" => fill(rest),
            "call" => call(rest),
            "execute" => execute(rest),
            "connect" => {
                let address = rest.parse().expect("an address");
                TcpStream::connect_timeout(&address, Duration::from_secs(2)).map(|_| "done".to_owned())
            }
            "ask" => ask(rest).and_then(answer),
            "ask-and-end" => ask_and_end(rest),
            "tunnel" => tunnel(rest),
            "listeners" => listeners(),
            "rename" => fs::rename(rest, format!("{rest}.renamed")).map(|()| "done".to_owned()),
            other => panic!("nothing to try is called `{other}`"),
        };
        match came {
            Ok(came) => println!("{line}: {came}"),
            Err(error) => println!("{line}: {:?}", error.kind()),
        }
    }
}

/// The proxy that the variables name.
fn proxy() -> io::Result<TcpStream> {
    let proxy = std::env::var("http_proxy").map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let stream = TcpStream::connect(proxy.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Sends the beginning of a request to the proxy.
fn ask(request: &str) -> io::Result<TcpStream> {
    let mut stream = proxy()?;
    write!(stream, "{}\r\n\r\n", request.replace("\\n", "\r\n"))?;
    Ok(stream)
}

/// The same of a program that says at once that it has said all.
fn ask_and_end(request: &str) -> io::Result<String> {
    let stream = ask(request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    answer(stream)
}

/// The status of an answer, and its last line.
fn answer(mut stream: TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    // A connection that is cut off has said what it has said.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or("nothing").to_owned();
    Ok(format!("{status} {}", answer.trim_end().lines().last().unwrap_or_default()))
}

/// Opens a tunnel, and says something in it; answers its status.
fn open(to: &str, said: &str) -> io::Result<(TcpStream, String)> {
    let mut stream = proxy()?;
    write!(stream, "CONNECT {to} HTTP/1.1\r\n\r\n")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
        head.push(byte[0]);
    }
    let status = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or("nothing").to_owned();
    stream.write_all(said.as_bytes())?;
    Ok((stream, status))
}

/// What comes through a tunnel for what is said in it.
fn tunnel(words: &str) -> io::Result<String> {
    let (to, said) = words.split_once(' ').unwrap_or((words, ""));
    let (mut stream, status) = open(to, said)?;
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(format!("{status} {}", String::from_utf8_lossy(&answer).lines().last().unwrap_or_default()))
}

/// Who listens in this network, as the kernel writes it.
fn listeners() -> io::Result<String> {
    let mut all = fs::read_to_string("/proc/net/tcp")?;
    all.push_str(&fs::read_to_string("/proc/net/tcp6").unwrap_or_default());
    let lines = all.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"0A")).then(|| fields[1].to_owned())
    });
    Ok(lines.collect::<Vec<_>>().join(" "))
}

/// Writes a file until there is no more room; answers how many megabytes that were.
fn fill(path: &str) -> io::Result<String> {
    let mut file = fs::File::create(path)?;
    for megabytes in 0..1_000 {
        if file.write_all(&[b'x'; 1 << 20]).is_err() {
            return Ok(format!("{megabytes} MB"));
        }
    }
    Ok("no end".to_owned())
}

/// Puts a program there and executes it.
fn execute(path: &str) -> io::Result<String> {
    use std::os::unix::fs::PermissionsExt;
    fs::copy("/agent", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o4755))?;
    std::process::Command::new(path).env("MODE", "echo").stdin(std::process::Stdio::null()).status()?;
    Ok("done".to_owned())
}
