//! A small web server with a hole in it, the other ends of what attackers do, and a program that calls home.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::number;

/// `web ADDRESS FOLDER`: serves the files of FOLDER/www and writes FOLDER/access.log; what is posted to `/run` is run by a shell, which no
/// server should do.
pub(super) fn serve(args: &[String]) -> Result<()> {
    let listener = TcpListener::bind(args.first().context("no address is named")?)?;
    let folder = Path::new(args.get(1).context("no folder is named")?).to_owned();
    println!("ready");
    for stream in listener.incoming() {
        // Who goes away in the midst of a request is no reason to end.
        let _ = answer(stream?, &folder);
    }
    Ok(())
}

fn answer(mut stream: TcpStream, folder: &Path) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("access.log"))?;
    log.write_all(request.as_bytes())?;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let content = if path == "/run" {
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(String::from_utf8_lossy(&body).as_ref())
            .stdin(Stdio::null())
            .output()?;
        shell.stdout
    } else {
        fs::read(folder.join("www").join(path.trim_start_matches('/'))).unwrap_or_default()
    };
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n",
        content.len()
    )?;
    Ok(stream.write_all(&content)?)
}

/// `sink TEXT ADDRESS…`: takes connections at each address, says TEXT to each and reads what comes.
pub(super) fn sink(args: &[String]) -> Result<()> {
    let (text, addresses) = args.split_first().context("no text")?;
    let mut listening = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        let text = text.replace("\\n", "\n");
        listening.push(thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let text = text.clone();
                thread::spawn(move || {
                    let _ = stream.write_all(text.as_bytes());
                    std::io::copy(&mut stream, &mut std::io::sink())
                });
            }
        }));
    }
    println!("ready");
    listening.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// `beat ADDRESS TIMES MILLISECONDS`: calls home so many times, at that interval give or take a fifth.
pub(super) fn beat(args: &[String]) -> Result<()> {
    let address = args.first().context("no address is named")?;
    let (times, pause): (u64, u64) = (number(args, 1)?, number(args, 2)?);
    for beat in 0..times {
        TcpStream::connect(address)?.write_all(b"still here")?;
        // Any numbers that do not repeat will do.
        let jitter = (beat * 7_919 + 13) % 401;
        thread::sleep(Duration::from_millis(pause * (800 + jitter) / 1_000));
    }
    Ok(())
}
