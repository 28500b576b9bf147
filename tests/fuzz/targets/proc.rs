//! What /proc tells of a task: a name that the task gave itself passes for nothing else.
//!
//! Input: the name of a task, ended by NUL; a file of /proc.

use modprobe_guard::requester::cgroup;
use modprobe_guard::requester::task::Stat;
use modprobe_guard::text::Text;

pub fn check(mut data: &[u8]) {
    let comm = super::until_nul(&mut data);
    let line = [b"4711 (", comm, b") S 17 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 3 0 12345 0 0\n"].concat();
    let stat = Stat::parse(&line).unwrap();
    assert_eq!(stat.comm, Text::from(comm));
    assert_eq!((stat.state, stat.parent, stat.threads, stat.started), (b'S', 17, 3, 12345));
    assert!(!stat.is_kernel_thread && !stat.is_ending);

    if let Some(stat) = Stat::parse(data) {
        let comm = stat.comm.as_bytes();
        assert!(
            [&b"("[..], comm, b")"]
                .concat()
                .iter()
                .eq(&data[data.iter().position(|&byte| byte == b'(').unwrap()..][..comm.len() + 2])
        );
    }
    let stands_there = |text: &Text| {
        text.as_bytes().is_empty() || data.windows(text.as_bytes().len()).any(|window| window == text.as_bytes())
    };
    if let Some(unit) = cgroup::unit(data) {
        let kinds: [&[u8]; 5] = [b".service", b".scope", b".socket", b".mount", b".swap"];
        assert!(kinds.iter().any(|kind| unit.as_bytes().ends_with(kind)) && stands_there(&unit), "{unit}");
        assert!(!unit.as_bytes().iter().any(|byte| matches!(byte, b'/' | b'\n')), "{unit}");
    }
    if let Some(container) = cgroup::container(data) {
        assert!(stands_there(&container) && !container.as_bytes().iter().any(|byte| matches!(byte, b'/' | b'\n')));
    }
}
