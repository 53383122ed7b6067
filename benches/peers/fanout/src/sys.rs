//! What the measurements ask of the kernel.

use std::io;
use std::os::fd::RawFd;

/// Keeps the calling thread, and those that it starts, on this core.
pub fn pin(core: usize) {
    // SAFETY: a set of plain bits, whose size is given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0, "core {core}");
    }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is there to be written.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert_eq!(result, 0, "clock {id}: {}", io::Error::last_os_error());
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds of the clock that all processes share.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CPU that this thread has used.
pub fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds of CPU, user and system, that all threads of a process have used.
pub fn process_cpu(pid: u32) -> u64 {
    let mut id = 0;
    // SAFETY: the number is there to be written.
    let result = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut id) };
    assert_eq!(result, 0, "no process {pid}");
    clock(id)
}

/// Sleeps until this time of [`now`].
pub fn sleep_until(at: u64) {
    let time = libc::timespec {
        tv_sec: (at / 1_000_000_000) as libc::time_t,
        tv_nsec: (at % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: nothing is written, for there is no place given.
    while unsafe {
        let remain = std::ptr::null_mut();
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const time, remain)
    } == libc::EINTR
    {}
}

/// Bytes of memory of a process that are resident and its own (shared code is not counted).
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("kB of RssAnon");
    kib.parse::<u64>().expect("a number") * 1024
}

/// How often the calling thread has gone to sleep by itself.
pub fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("a thread");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|line| line.trim().parse().ok()).expect("a number of voluntary switches")
}

/// Lets the process have as many descriptors as it may.
pub fn raise_descriptors() {
    // SAFETY: the structure is read and written whole.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// One `send(2)` that does not wait. How many bytes were taken.
pub fn send(fd: RawFd, bytes: &[u8]) -> usize {
    // SAFETY: the bytes are only read.
    let sent = unsafe {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags)
    };
    if sent < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }
    sent.max(0) as usize
}

/// Waits until the socket takes more.
pub fn wait_writable(fd: RawFd) {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one structure, as the count says.
    unsafe { libc::poll(&raw mut poll, 1, 1000) };
}

/// A socket that is being connected to this port, from one of the addresses 127.0.0.x.
pub fn connect(port: u16, from: u8, receive_buffer: Option<i32>) -> io::Result<RawFd> {
    let address = |host: u8, port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, host]) },
        sin_zero: [0; 8],
    };
    let check = |result: i32| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let option = |fd, level, name, value: i32| {
        let size = size_of_val(&value) as libc::socklen_t;
        // SAFETY: a number, whose size is given.
        check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size) })
    };
    // SAFETY: plain calls; the addresses live longer than the calls, and their sizes are given.
    unsafe {
        let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0))?;
        option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        if let Some(size) = receive_buffer {
            option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, size)?;
        }
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let source = address(from, 0);
        check(libc::bind(fd, (&raw const source).cast(), size))?;
        let to = address(1, port);
        match check(libc::connect(fd, (&raw const to).cast(), size)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(fd),
        }
    }
}

/// Reads what there is, at most the length of the buffer; `None` where there is nothing yet.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer's own length is given.
    let count = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if count < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        return None;
    }
    assert!(count > 0, "a server has ended a connection");
    Some(count as usize)
}

pub struct Epoll {
    fd: RawFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> Self {
        // SAFETY: a plain call.
        let fd = unsafe { libc::epoll_create1(0) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] }
    }

    fn control(&self, operation: i32, fd: RawFd, key: usize, events: i32) {
        let mut event = libc::epoll_event { events: events as u32, u64: key as u64 };
        // SAFETY: the structure is only read.
        let result = unsafe { libc::epoll_ctl(self.fd, operation, fd, &raw mut event) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    pub fn watch_writing(&self, fd: RawFd, key: usize) {
        self.control(libc::EPOLL_CTL_ADD, fd, key, libc::EPOLLOUT);
    }

    pub fn watch_reading(&self, fd: RawFd, key: usize) {
        self.control(libc::EPOLL_CTL_ADD, fd, key, libc::EPOLLIN);
    }

    pub fn now_reading(&self, fd: RawFd, key: usize) {
        self.control(libc::EPOLL_CTL_MOD, fd, key, libc::EPOLLIN);
    }

    pub fn forget(&self, fd: RawFd) {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// The keys of those that are ready within so many milliseconds.
    pub fn wait(&mut self, timeout: i32, keys: &mut Vec<usize>) {
        keys.clear();
        let room = self.events.len() as i32;
        // SAFETY: there is room for as many as the count says.
        let count =
            unsafe { libc::epoll_wait(self.fd, self.events.as_mut_ptr(), room, timeout) }.max(0);
        keys.extend(self.events[..count as usize].iter().map(|event| event.u64 as usize));
    }
}

/// A counter that a thread can sleep on.
pub struct EventFd(RawFd);

impl EventFd {
    pub fn new() -> Self {
        // SAFETY: a plain call.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        Self(fd)
    }

    pub fn fd(&self) -> RawFd {
        self.0
    }

    pub fn write(&self) {
        let one = 1_u64;
        // SAFETY: eight bytes.
        let count = unsafe { libc::write(self.0, (&raw const one).cast(), 8) };
        assert_eq!(count, 8);
    }

    pub fn read(&self) -> u64 {
        let mut value = 0_u64;
        // SAFETY: eight bytes.
        unsafe { libc::read(self.0, (&raw mut value).cast(), 8) };
        value
    }
}
