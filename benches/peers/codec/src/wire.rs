//! What is on the wire, and the two ends of it: a source that never ends and a sink that takes all.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that one read gives, and the most that is encoded before it is written.
pub const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ascii,
    Chinese,
    Binary,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ascii => "text, ASCII",
            Self::Chinese => "text, Chinese",
            Self::Binary => "binary",
        })
    }
}

/// As many different messages as make 256 KiB, at least 2 and at most 1 024.
pub fn messages(kind: Kind, size: usize) -> Vec<Bytes> {
    let count = (256 * 1024 / size).clamp(2, 1024);
    (0..count).map(|number| message(kind, size, number)).collect()
}

fn message(kind: Kind, size: usize, number: usize) -> Bytes {
    let repeated = |text: &'static str| text.chars().cycle().skip(number);
    match kind {
        Kind::Ascii => {
            let json = r#"{"type":"progress","step":41,"of":100,"residual":3.2e-7}"#;
            repeated(json).take(size).collect::<String>().into()
        }
        Kind::Chinese => {
            let mut text: String = repeated("残差收敛，第四十一步完成。").take(size / 3).collect();
            text.extend(repeated("step").take(size % 3));
            text.into()
        }
        Kind::Binary => (0..size).map(|i| ((i + number) % 251) as u8).collect::<Vec<u8>>().into(),
    }
}

/// The frames of these messages as a client sends them (RFC 6455, 5.2), or as a server does.
pub fn image(kind: Kind, messages: &[Bytes], masked: bool) -> Bytes {
    let mut image = BytesMut::new();
    for (number, message) in messages.iter().enumerate() {
        image.put_u8(if kind == Kind::Binary { 0x82 } else { 0x81 });
        let mask_bit = if masked { 0x80 } else { 0 };
        match message.len() {
            len @ 0..=125 => image.put_u8(mask_bit | len as u8),
            len @ 126..=65_535 => {
                image.put_u8(mask_bit | 126);
                image.put_u16(len as u16);
            }
            len => {
                image.put_u8(mask_bit | 127);
                image.put_u64(len as u64);
            }
        }
        if masked {
            let key = (0x9E37_79B9_u32.wrapping_mul(number as u32 + 1)).to_be_bytes();
            image.extend_from_slice(&key);
            image.extend(message.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        } else {
            image.extend_from_slice(message);
        }
    }
    image.freeze()
}

/// The image, over and over. Writes are copied once, and kept where they are to be compared.
pub struct Wire {
    image: Bytes,
    rest: Bytes,
    written: Rc<RefCell<Written>>,
    /// Where writes are copied to, as into a socket's buffer.
    socket: Box<[u8]>,
}

#[derive(Default)]
pub struct Written {
    pub count: usize,
    pub kept: Option<Vec<u8>>,
}

impl Wire {
    pub fn new(image: Bytes) -> Self {
        Self { rest: image.clone(), image, written: Rc::default(), socket: vec![0; CHUNK].into() }
    }

    /// Where to look at what is written.
    pub fn written(&self) -> Rc<RefCell<Written>> {
        Rc::clone(&self.written)
    }

    /// What a read gives to a reader with this much room.
    fn next(&mut self, room: usize) -> &[u8] {
        if self.rest.is_empty() {
            self.rest = self.image.clone();
        }
        let count = room.min(CHUNK).min(self.rest.len());
        let at = self.image.len() - self.rest.len();
        self.rest.advance(count);
        &self.image[at..at + count]
    }

    /// A read into the spare room of a buffer, as `FramedRead` does it.
    pub fn read_buf(&mut self, into: &mut BytesMut) {
        into.reserve(1);
        let spare = into.spare_capacity_mut().len();
        into.extend_from_slice(self.next(spare));
    }

    /// Takes what is in the buffer, and leaves it empty.
    pub fn take(&mut self, buffer: &mut BytesMut) {
        self.put(buffer);
        buffer.clear();
    }

    /// A vectored write.
    pub fn put_all(&mut self, slices: &[io::IoSlice<'_>]) -> usize {
        slices.iter().for_each(|slice| self.put(slice));
        slices.iter().map(|slice| slice.len()).sum()
    }

    fn put(&mut self, bytes: &[u8]) {
        let mut written = self.written.borrow_mut();
        written.count += bytes.len();
        for piece in bytes.chunks(CHUNK) {
            std::hint::black_box(&mut self.socket[..piece.len()]).copy_from_slice(piece);
        }
        if let Some(kept) = &mut written.kept {
            kept.extend_from_slice(bytes);
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(into.len());
        into[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = into.remaining();
        into.put_slice(self.next(room));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put_all(slices)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
