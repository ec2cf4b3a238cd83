//! What start-up needed of the program's code, and nothing since, need not count as this process's memory.
//!
//! The code of the start (settings, keys, certificates, the first word with the control plane) stays mapped long after it ran: a third of what
//! a sidecar holds, beside every workload. Called by `process` when the proxy is ready, and now and then. What is needed again comes back from the page
//! cache by a minor fault, without reading a disk.
#![expect(unsafe_code, reason = "madvise has no safe wrapper: see the parent")]

use std::{fs, io, ops::Range};

/// Lets go of the pages of all code and constants that are mapped from files. Gives how many bytes were mapped before.
///
/// # Errors
/// Where `/proc/self/smaps` cannot be read, or the kernel refuses: nothing has changed then, and nothing depends on it.
pub fn let_go() -> io::Result<usize> {
    let mut bytes = 0;
    for (range, resident) in clean(&fs::read_to_string("/proc/self/smaps")?) {
        // SAFETY: the range is mapped from a file, without the right to write to it, and no page of it differs from the file (that is what `clean`
        // chose it by), so that every page comes back as it was, whoever runs in it meanwhile.
        let result = unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        bytes += resident;
    }
    Ok(bytes)
}

/// The code and the constants mapped from files of which no page is this process's own (as a debugger makes one for a breakpoint) or locked, and how many bytes of it are resident.
fn clean(smaps: &str) -> Vec<(Range<usize>, usize)> {
    let mut found = Vec::new();
    let mut mapping: Option<(Range<usize>, usize)> = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        let Some(field) = first.strip_suffix(':') else {
            found.extend(mapping.take());
            mapping = unwritten(first, words).map(|range| (range, 0));
            continue;
        };
        let kib: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match (field, &mut mapping) {
            ("Rss", Some((_, resident))) => *resident = kib * 1024,
            ("Anonymous" | "Swap" | "Locked", _) if kib > 0 => mapping = None,
            _ => {}
        }
    }
    found.extend(mapping);
    found
}

/// The range of a mapping, where its head says that it is from a file and cannot be written to.
fn unwritten<'a>(range: &str, mut rest: impl Iterator<Item = &'a str>) -> Option<Range<usize>> {
    let (start, end) = range.split_once('-')?;
    let rights = rest.next()?;
    let path = rest.nth(3)?; // behind offset, device and inode
    if !matches!(rights, "r-xp" | "r--p") || !path.starts_with('/') {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unchanged_and_from_files_is_let_go() {
        let smaps = "\
1000-2000 r--p 00000000 fe:00 11 /usr/bin/program
Rss:                   4 kB
Private_Dirty:         0 kB
2000-3000 r--p 00001000 fe:00 11 /usr/bin/program
Rss:                   4 kB
Anonymous:             4 kB
3000-9000 r-xp 00002000 fe:00 11 /usr/bin/program (deleted)
Rss:                  16 kB
Shared_Dirty:         16 kB
VmFlags: rd ex mr mw me
9000-a000 r-xp 00008000 fe:00 12 /usr/lib/with breakpoint.so
Rss:                   4 kB
Anonymous:             4 kB
a000-b000 rw-p 00000000 00:00 0
Rss:                   4 kB
b000-c000 r-xp 00000000 00:00 0 [vdso]
Rss:                   4 kB
c000-d000 r-xp 00000000 fe:00 13 /usr/lib/last.so
Rss:                   4 kB
";
        let found = [(0x1000..0x2000, 4), (0x3000..0x9000, 16), (0xc000..0xd000, 4)];
        assert_eq!(clean(smaps), found.map(|(range, kib)| (range, kib * 1024)));
    }

    #[test]
    fn a_program_goes_on_without_what_it_let_go() {
        let before = let_go().expect("Linux");
        assert!(before > 0, "this test is code");
        assert_eq!("still".len() + 2, 7);
        let_go().expect("and again");
    }
}
