//! Parses a pickle as data, without calling anything.
//!
//! Pickles are programs for a stack machine. Supported are the operations that PyTorch's `weights_only=True` allows;
//! others are errors. A function call becomes [`Node::Call`], which is never executed.

use std::collections::HashMap;
use std::io::{BufRead, Read};

/// Index of an object in [`Objects`]; references may be cyclic.
pub(super) type Id = usize;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// Beyond 64 bits, in little-endian bytes.
    LargeInt(Vec<u8>),
    Float,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name in a Python module.
    Global(String),
    /// A function and its arguments.
    Call(Id, Id),
    /// Stored outside of the pickle, such as a tensor's numbers.
    Persistent(Id),
}

#[derive(Debug, Default)]
pub(super) struct Objects {
    nodes: Vec<Node>,
}

impl Objects {
    pub(super) fn get(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// Returns the elements of a tuple, or none.
    pub(super) fn tuple(&self, id: Id) -> &[Id] {
        let Node::Tuple(elements) = self.get(id) else { return &[] };
        elements
    }

    /// Returns a function's name and its arguments.
    pub(super) fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        let Node::Call(function, arguments) = self.get(id) else { return None };
        Some((self.global(*function)?, self.tuple(*arguments)))
    }

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        let Node::Global(name) = self.get(id) else { return None };
        Some(name)
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        let Node::Text(text) = self.get(id) else { return None };
        Some(text)
    }

    /// Returns a non-negative integer.
    pub(super) fn size(&self, id: Id) -> Option<u64> {
        let Node::Int(value) = self.get(id) else { return None };
        u64::try_from(*value).ok()
    }

    /// Returns a tuple of non-negative integers.
    pub(super) fn sizes(&self, id: Id) -> Option<Vec<u64>> {
        let Node::Tuple(elements) = self.get(id) else { return None };
        elements.iter().map(|element| self.size(*element)).collect()
    }

    /// Returns the last value of a key of a dictionary.
    pub(super) fn value(&self, dict: Id, key: &str) -> Option<Id> {
        let Node::Dict(entries) = self.get(dict) else { return None };
        entries.iter().rev().find(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value)
    }

    /// Returns every object in pickle order.
    pub(super) fn ids(&self) -> std::ops::Range<Id> {
        0..self.nodes.len()
    }

    fn add(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

/// Reads one pickle up to its end. Returns its objects and the root.
pub(super) fn read(input: &mut impl BufRead) -> Result<(Objects, Id), String> {
    let mut unpickler =
        Unpickler { input, objects: Objects::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let operation = unpickler.byte()?;
        if operation == b'.' {
            let root = unpickler.pop()?;
            return Ok((unpickler.objects, root));
        }
        unpickler.run(operation)?;
    }
}

struct Unpickler<'a, R> {
    input: &'a mut R,
    objects: Objects,
    stack: Vec<Id>,
    /// Stack heights at MARK operations.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<R: BufRead> Unpickler<'_, R> {
    fn run(&mut self, operation: u8) -> Result<(), String> {
        match operation {
            // PROTO
            0x80 => self.byte().map(|_| ()),
            // BININT, BININT1, BININT2, LONG1
            b'J' => self.bytes().and_then(|bytes| self.push(Node::Int(i32::from_le_bytes(bytes).into()))),
            b'K' => self.bytes().and_then(|[byte]| self.push(Node::Int(byte.into()))),
            b'M' => self.bytes().and_then(|bytes| self.push(Node::Int(u16::from_le_bytes(bytes).into()))),
            0x8a => self.long(),
            // BINFLOAT
            b'G' => self.bytes::<8>().and_then(|_| self.push(Node::Float)),
            // BINUNICODE, BINSTRING and SHORT_BINSTRING
            b'X' | b'T' => self.bytes().and_then(|length| self.text(u32::from_le_bytes(length))),
            b'U' => self.byte().and_then(|length| self.text(length.into())),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_DICT, EMPTY_SET
            b')' => self.push(Node::Tuple(Vec::new())),
            b']' | 0x8f => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            // MARK
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // TUPLE, TUPLE1, TUPLE2, TUPLE3
            b't' => self.pop_to_mark().and_then(|elements| self.push(Node::Tuple(elements))),
            0x85..=0x87 => {
                self.pop_some(usize::from(operation - 0x84)).and_then(|elements| self.push(Node::Tuple(elements)))
            }
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => self.pop_some(1).and_then(|elements| self.append(elements)),
            b'e' => self.pop_to_mark().and_then(|elements| self.append(elements)),
            b's' => self.pop_some(2).and_then(|elements| self.set(&elements)),
            b'u' => self.pop_to_mark().and_then(|elements| self.set(&elements)),
            // GLOBAL, REDUCE, NEWOBJ, BUILD, BINPERSID
            b'c' => self.global(),
            b'R' | 0x81 => self.call(),
            // An object's state changes no tensor.
            b'b' => self.pop().map(|_| ()),
            b'Q' => self.pop().and_then(|id| self.push(Node::Persistent(id))),
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' => self.byte().and_then(|place| self.put_memo(place.into())),
            b'r' => self.bytes().and_then(|place| self.put_memo(u32::from_le_bytes(place))),
            b'h' => self.byte().and_then(|place| self.get_memo(place.into())),
            b'j' => self.bytes().and_then(|place| self.get_memo(u32::from_le_bytes(place))),
            other => Err(format!("its pickle has the operation {other:#04x}, which is not allowed in weights")),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.bytes().map(|[byte]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|_| "its pickle is truncated".to_owned())?;
        Ok(bytes)
    }

    fn many(&mut self, length: u64) -> Result<Vec<u8>, String> {
        // Read in steps: a false length must not allocate gigabytes.
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes);
        match read {
            Ok(read) if read as u64 == length => Ok(bytes),
            _ => Err("its pickle is truncated".into()),
        }
    }

    fn text(&mut self, length: u32) -> Result<(), String> {
        let bytes = self.many(length.into())?;
        let text = String::from_utf8(bytes).map_err(|_| "its pickle has text that is not UTF-8".to_owned())?;
        self.push(Node::Text(text))
    }

    fn long(&mut self) -> Result<(), String> {
        let length = self.byte()?;
        let bytes = self.many(length.into())?;
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let node = if bytes.len() > 8 {
            Node::LargeInt(bytes)
        } else {
            let mut filled = [if negative { 0xff } else { 0 }; 8];
            filled[..bytes.len()].copy_from_slice(&bytes);
            Node::Int(i64::from_le_bytes(filled))
        };
        self.push(node)
    }

    fn global(&mut self) -> Result<(), String> {
        let (module, name) = (self.line()?, self.line()?);
        self.push(Node::Global(format!("{module}.{name}")))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        line.pop();
        String::from_utf8(line).map_err(|_| "its pickle has a name that is not UTF-8".into())
    }

    /// Converts a call that constructs a dictionary; other calls are kept.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let dictionary =
            matches!(self.objects.global(function), Some("collections.OrderedDict" | "collections.defaultdict"));
        let node = match dictionary {
            true => Node::Dict(self.pairs(arguments)),
            false => Node::Call(function, arguments),
        };
        self.push(node)
    }

    /// Returns the items of a dictionary constructed from a list of pairs, as in Python 2.
    fn pairs(&self, arguments: Id) -> Vec<(Id, Id)> {
        let list = self.objects.tuple(arguments).iter().find_map(|argument| match self.objects.get(*argument) {
            Node::List(pairs) => Some(pairs),
            _ => None,
        });
        let pair = |id: &Id| match self.objects.get(*id) {
            Node::List(pair) | Node::Tuple(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
            _ => None,
        };
        list.into_iter().flatten().filter_map(pair).collect()
    }

    fn append(&mut self, elements: Vec<Id>) -> Result<(), String> {
        let last = *self.stack.last().ok_or_else(empty)?;
        let Node::List(list) = &mut self.objects.nodes[last] else {
            return Err("its pickle appends to a value that is not a list".into());
        };
        list.extend(elements);
        Ok(())
    }

    fn set(&mut self, elements: &[Id]) -> Result<(), String> {
        let last = *self.stack.last().ok_or_else(empty)?;
        let pairs = elements.chunks_exact(2);
        let (Node::Dict(entries), []) = (&mut self.objects.nodes[last], pairs.remainder()) else {
            return Err("its pickle sets entries of a value that is not a dictionary".into());
        };
        entries.extend(pairs.map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn put_memo(&mut self, place: u32) -> Result<(), String> {
        let last = *self.stack.last().ok_or_else(empty)?;
        self.memo.insert(place, last);
        Ok(())
    }

    fn get_memo(&mut self, place: u32) -> Result<(), String> {
        let id = *self.memo.get(&place).ok_or("its pickle reads an undefined memo entry")?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), String> {
        let id = self.objects.add(node);
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(empty)
    }

    fn pop_some(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let from = self.stack.len().checked_sub(count).ok_or_else(empty)?;
        Ok(self.stack.split_off(from))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or_else(empty)?;
        Ok(self.stack.split_off(mark))
    }
}

fn empty() -> String {
    "its pickle pops from an empty stack".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_filled_after_memoization_keeps_its_entries() {
        // {"a": d, "b": d} where d is filled after it was put into the memo.
        let pickle = b"\x80\x02}q\x00(X\x01\0\0\0a}q\x01X\x01\0\0\0kK\x07sX\x01\0\0\0bh\x01u.";
        let (objects, root) = read(&mut &pickle[..]).unwrap();
        for key in ["a", "b"] {
            let inner = objects.value(root, key).unwrap();
            assert_eq!(objects.size(objects.value(inner, "k").unwrap()), Some(7));
        }
    }

    #[test]
    fn integers_of_every_length_are_read() {
        let of = |pickle: &[u8]| {
            let (objects, root) = read(&mut &pickle[..]).unwrap();
            objects.get(root).clone()
        };
        assert_eq!(of(b"J\xfe\xff\xff\xff."), Node::Int(-2));
        assert_eq!(of(b"\x8a\x00."), Node::Int(0));
        assert_eq!(of(b"\x8a\x01\xff."), Node::Int(-1));
        assert_eq!(of(b"\x8a\x05\0\0\0\0\x01."), Node::Int(1 << 32));
        assert_eq!(of(b"\x8a\x09\x01\0\0\0\0\0\0\0\x01."), Node::LargeInt(vec![1, 0, 0, 0, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn broken_pickles_are_errors() {
        for pickle in [&b""[..], b"X\xff\xff\xff\xffab", b".", b"t", b"(t\x85s.", b"h\x01.", b"Na.", b"\x95", b"Ns."] {
            assert!(read(&mut &pickle[..]).is_err(), "{pickle:?}");
        }
    }
}
