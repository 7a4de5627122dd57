//! Memory for weights on huge pages: every forward pass reads all weights, and with pages of 4 KiB a tenth of the time
//! goes into TLB misses.
//!
//! Matrices are packed side by side into chunks, since most are smaller than a huge page. Pages never written take no
//! memory; a chunk is freed with its last matrix.
#![expect(
    unsafe_code,
    reason = "memory that the allocator gives is handed out in parts, each written before it is read"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a huge page on x86-64, and on aarch64 with 4 KiB pages.
const PAGE_BYTES: usize = 2 << 20;
/// Minimum bytes of a chunk.
const CHUNK_BYTES: usize = 32 * PAGE_BYTES;
/// Whether every matrix has its own allocation of exact size, so that a sanitizer detects reads past the end.
const SEPARATE_ALLOCATIONS: bool = cfg!(any(encaje_sanitized, miri));
/// Alignment of a matrix: a cache line, and a vector.
const ALIGNMENT: usize = 64;

/// The chunk with free space, and how many bytes of it are used.
static CURRENT_CHUNK: Mutex<(Weak<Chunk>, usize)> = Mutex::new((Weak::new(), 0));

/// An immutable array inside a chunk.
pub(super) struct Slab<T> {
    /// Keeps the memory alive.
    _chunk: Arc<Chunk>,
    start: NonNull<T>,
    len: usize,
}

struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a slab owns its part of the chunk, which is never written again and may be read from any thread.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slab<T> {}
// SAFETY: a chunk only frees memory, which may happen on any thread.
unsafe impl Send for Chunk {}
// SAFETY: a shared chunk has no operations.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(bytes: usize) -> Arc<Chunk> {
        let layout = match SEPARATE_ALLOCATIONS {
            true => Layout::from_size_align(bytes.max(1), ALIGNMENT),
            false => Layout::from_size_align(bytes.next_multiple_of(PAGE_BYTES), PAGE_BYTES),
        };
        let layout = layout.expect("matrices are far smaller than the address space");
        // SAFETY: the layout has a nonzero size.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        if !SEPARATE_ALLOCATIONS {
            advise_huge_pages(start, layout.size());
        }
        Arc::new(Chunk { start, layout })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and every slab in it is gone.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Requests huge pages; without them normal pages work.
fn advise_huge_pages(start: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the range is our own whole pages; the advice does not change the contents.
    unsafe {
        libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let (_, _) = (start, bytes);
}

/// Reserves `bytes` exclusively, and returns their chunk and start.
fn allocate(bytes: usize) -> (Arc<Chunk>, NonNull<u8>) {
    if SEPARATE_ALLOCATIONS {
        let chunk = Chunk::new(bytes);
        let start = chunk.start;
        return (chunk, start);
    }
    let bytes = bytes.next_multiple_of(ALIGNMENT);
    let mut current = CURRENT_CHUNK.lock().unwrap_or_else(PoisonError::into_inner);
    let (chunk, used) = match current.0.upgrade() {
        Some(chunk) if chunk.layout.size() - current.1 >= bytes => (chunk, current.1),
        _ => (Chunk::new(bytes.max(CHUNK_BYTES)), 0),
    };
    *current = (Arc::downgrade(&chunk), used + bytes);
    // SAFETY: the chunk has at least `bytes` bytes after `used`.
    let start = unsafe { chunk.start.add(used) };
    (chunk, start)
}

impl<T: Copy + Send> Slab<T> {
    /// Fills `parts` times `len` elements on all cores; `numbers(part)` yields the elements of a part in order.
    ///
    /// # Panics
    /// When a part yields more or fewer than `len` elements.
    pub(super) fn new<I: Iterator<Item = T>>(parts: usize, len: usize, numbers: impl Fn(usize) -> I + Sync) -> Slab<T> {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let total = parts * len;
        let (chunk, start) = allocate(total * size_of::<T>());
        let start = start.cast::<T>();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts.max(1));
        let share = parts.div_ceil(threads).max(1);
        // SAFETY: the reservation is aligned and has `total` elements; uninitialised ones are only written.
        let all = unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast::<std::mem::MaybeUninit<T>>(), total) };
        let numbers = &numbers;
        std::thread::scope(|scope| {
            for (index, some) in all.chunks_mut((share * len).max(1)).enumerate() {
                scope.spawn(move || {
                    for (part, slots) in some.chunks_mut(len).enumerate() {
                        let mut slots = slots.iter_mut();
                        numbers(index * share + part).for_each(|number| {
                            slots.next().expect("a part has no more numbers than slots").write(number);
                        });
                        assert!(slots.next().is_none(), "a part has a number for every place");
                    }
                });
            }
        });
        Slab { _chunk: chunk, start, len: total }
    }
}

impl<T> Deref for Slab<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements were written there, and the chunk is alive.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_are_aligned_and_hold_their_own_elements() {
        let slabs: Vec<Slab<u32>> = [(3usize, 5usize), (1, 1), (0, 7), (16, 1000)]
            .map(|(parts, len)| Slab::new(parts, len, |part| (0..len).map(move |at| (part * 10_000 + at) as u32)))
            .into();
        for (slab, (parts, len)) in slabs.iter().zip([(3, 5), (1, 1), (0, 7), (16, 1000)]) {
            let expected: Vec<u32> = (0..parts).flat_map(|part| (0..len).map(move |at| part * 10_000 + at)).collect();
            assert_eq!(**slab, expected);
            assert!(slab.as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
    }

    #[test]
    fn a_matrix_larger_than_a_chunk_gets_its_own() {
        let len = CHUNK_BYTES / 2 + 1;
        let slab = Slab::new(2, len, |part| (0..len).map(move |at| (part ^ at & 1) as u8));
        assert_eq!((slab.len(), slab[0], slab[1], slab[CHUNK_BYTES / 2 + 1]), (CHUNK_BYTES + 2, 0, 1, 1));
    }

    #[test]
    #[should_panic(expected = "panicked")]
    fn a_part_that_is_too_short_is_refused() {
        Slab::new(1, 3, |_| 0..2_u8);
    }

    #[test]
    fn many_threads_allocate_concurrently() {
        let slabs: Vec<Slab<u64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u64)
                .map(|thread| scope.spawn(move || Slab::new(4, 333, |_| std::iter::repeat_n(thread, 333))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (thread, slab) in slabs.iter().enumerate() {
            assert!(slab.iter().all(|number| *number == thread as u64));
        }
    }
}
