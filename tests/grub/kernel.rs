//! A kernel of a few bytes that says what it was given on QEMU's debug port and ends the machine:
//! its own name, its arguments, the first line of its initramfs. Follows the 32-bit boot protocol
//! (<https://docs.kernel.org/arch/x86/boot.html>).

/// Where the loader puts what follows the setup sectors.
const BASE: u32 = 0x10_0000;

/// The file of a kernel with this name.
pub fn kernel(name: &str) -> Vec<u8> {
    let mut code: Vec<u8> = Vec::new();
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    code.extend(b"\xbc\x00\x00\x09\x00"); // mov esp, 0x90000
    let say = |code: &mut Vec<u8>, calls: &mut Vec<usize>| {
        code.extend(b"\xe8\0\0\0\0"); // call print
        calls.push(code.len());
    };
    let say_text = |code: &mut Vec<u8>, text: String, texts: &mut Vec<_>| {
        code.extend(b"\xbb\0\0\0\0"); // mov ebx, text
        texts.push((code.len(), text));
    };
    say_text(&mut code, format!("kernel {name} <\0"), &mut texts);
    say(&mut code, &mut calls);
    code.extend(b"\x8b\x9e\x28\x02\0\0"); // mov ebx, [esi + cmd_line_ptr]
    say(&mut code, &mut calls);
    say_text(&mut code, "> \0".into(), &mut texts);
    say(&mut code, &mut calls);
    code.extend(b"\x8b\x9e\x18\x02\0\0"); // mov ebx, [esi + ramdisk_image]
    code.extend(b"\x85\xdb\x74\x05"); // test ebx, ebx; jz over the call
    say(&mut code, &mut calls);
    code.extend(b"\xb0\x0a\xe6\xe9"); // mov al, '\n'; out 0xe9, al
    code.extend(b"\xe6\xf4\xf4\xeb\xfd"); // out 0xf4, al; hlt; jmp back
    let print = code.len();
    // Until NUL or newline: mov al, [ebx]; out 0xe9, al; inc ebx.
    code.extend(b"\x8a\x03\x84\xc0\x74\x09\x3c\x0a\x74\x05\xe6\xe9\x43\xeb\xf1\xc3");
    for after in calls {
        let distance = i32::try_from(print).unwrap() - i32::try_from(after).unwrap();
        code[after - 4..after].copy_from_slice(&distance.to_le_bytes());
    }
    for (after, text) in texts {
        let address = BASE + u32::try_from(code.len()).unwrap();
        code[after - 4..after].copy_from_slice(&address.to_le_bytes());
        code.extend(text.as_bytes());
    }
    code.resize(code.len().next_multiple_of(512), 0);
    [setup(code.len()), code].concat()
}

/// The boot sector and one setup sector with the header's fields that GRUB looks at.
fn setup(code_bytes: usize) -> Vec<u8> {
    let mut setup = vec![0; 1024];
    let paragraphs = u32::try_from(code_bytes / 16).unwrap();
    for (at, bytes) in [
        (0x1f1, &[1][..]),
        (0x1f4, &paragraphs.to_le_bytes()),
        (0x1fe, &[0x55, 0xaa]),
        (0x200, b"\xeb\x66HdrS\x06\x02"),
        (0x211, &[1]),
        (0x214, &BASE.to_le_bytes()),
        (0x22c, &0x7fff_ffff_u32.to_le_bytes()),
        (0x238, &2047_u32.to_le_bytes()),
    ] {
        setup[at..at + bytes.len()].copy_from_slice(bytes);
    }
    setup
}
