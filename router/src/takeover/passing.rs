//! Bytes with open descriptors over a unix socket: `SCM_RIGHTS`, see unix(7).
//!
//! The one place that lays out control messages. It knows no words: [`super::link`] and [`super::new_process`] do.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors of one message; Linux allows 253.
pub const MAX_DESCRIPTORS: usize = 200;

/// Room for the control message of [`MAX_DESCRIPTORS`] descriptors, aligned as `cmsghdr` has to be.
#[repr(align(8))]
struct Room([u8; 1024]);

/// Sends some of the bytes; returns how many. If it is any, all descriptors went along.
///
/// # Errors
/// As sendmsg(2).
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    assert!(descriptors.len() <= MAX_DESCRIPTORS, "too many descriptors");
    let mut room = Room([0; 1024]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let size = std::mem::size_of_val(descriptors);
    // SAFETY: all zeros is a valid msghdr. Every pointer in it is to something that lives until the call has returned,
    // the control message fits into the room (200 descriptors are 816 bytes), and sendmsg does not write to the bytes.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if !descriptors.is_empty() {
            message.msg_control = room.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as usize;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as usize;
            let data: *mut RawFd = libc::CMSG_DATA(header).cast();
            for (at, descriptor) in descriptors.iter().enumerate() {
                data.add(at).write_unaligned(descriptor.as_raw_fd());
            }
        }
        libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives some bytes and the descriptors that came with them; 0 bytes at the end.
///
/// # Errors
/// As recvmsg(2), and when not all descriptors fitted.
pub fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut room = Room([0; 1024]);
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: as in `send`; recvmsg writes no more than the lengths say. What it has written as SCM_RIGHTS are
    // descriptors that are this process' own from now on.
    let (received, is_cut) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = room.0.as_mut_ptr().cast();
        message.msg_controllen = room.0.len();
        let received = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC);
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let size = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data: *const RawFd = libc::CMSG_DATA(header).cast();
                for at in 0..size / size_of::<RawFd>() {
                    let descriptor = data.add(at).read_unaligned();
                    descriptors.push(OwnedFd::from_raw_fd(descriptor));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
        (received, message.msg_flags & libc::MSG_CTRUNC != 0)
    };
    if is_cut {
        return Err(io::Error::other("not all descriptors could be received"));
    }
    usize::try_from(received).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_that_was_passed_is_the_same_file() {
        let (one, other) = UnixStream::pair().unwrap();
        let path = std::env::temp_dir().join(format!("passed-{}", std::process::id()));
        let mut file = std::fs::File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let all = vec![file.as_fd(); MAX_DESCRIPTORS];
        assert_eq!(send(one.as_fd(), b"here", &all).unwrap(), 4);
        assert_eq!(send(one.as_fd(), b" it is", &[]).unwrap(), 6);
        drop(one);
        let (mut text, mut passed) = (Vec::new(), Vec::new());
        loop {
            let mut bytes = [0; 3];
            let received = receive(other.as_fd(), &mut bytes, &mut passed).unwrap();
            if received == 0 {
                break;
            }
            text.extend_from_slice(&bytes[..received]);
        }
        assert_eq!(text, b"here it is");
        assert_eq!(passed.len(), MAX_DESCRIPTORS);
        file.write_all(b"written by one").unwrap();
        let mut same = std::fs::File::from(passed.pop().unwrap());
        same.rewind().unwrap();
        let mut read = String::new();
        same.read_to_string(&mut read).unwrap();
        assert_eq!(read, "written by one");
    }
}
