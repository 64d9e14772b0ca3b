//! A program of a few instructions, so that one can tell whether the first of them ran.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

/// Where an x86-64 program of one segment is put.
const BASE: u64 = 0x40_0000;
const HEADERS: usize = 64 + 56;

/// `open(argv[1], O_CREAT | O_WRONLY, 0644)`, then `exit(0)`.
const CODE: [u8; 31] = [
    0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp + 16]
    0xbe, 0x41, 0x00, 0x00, 0x00, // mov esi, O_CREAT | O_WRONLY
    0xba, 0xa4, 0x01, 0x00, 0x00, // mov edx, 0644
    0xb8, 0x02, 0x00, 0x00, 0x00, // mov eax, SYS_open
    0x0f, 0x05, // syscall
    0x31, 0xff, // xor edi, edi
    0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, SYS_exit
    0x0f, 0x05, // syscall
];

/// Writes the program whose first act is to create the file that its argument names.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path) -> io::Result<()> {
    fs::write(path, program())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// An ELF executable (System V ABI, AMD64 supplement): its header, one program header, the code.
fn program() -> Vec<u8> {
    let entry = BASE + HEADERS as u64;
    let length = (HEADERS + CODE.len()) as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    for word in [entry, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // PT_LOAD, readable and executable.
    for half in [1_u32, 5] {
        elf.extend(half.to_le_bytes());
    }
    for word in [0, BASE, BASE, length, length, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(CODE);
    elf
}
