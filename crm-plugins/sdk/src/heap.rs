//! The plugin's heap. A run begins in a fresh instance and is over in microseconds: what it
//! allocates first comes from a room that the instance has from the start, one piece behind the
//! other, and only the last piece of it is ever taken back. What goes beyond the room is the system
//! allocator's.
//!
//! So most runs never grow their memory, which costs the host more than everything that they
//! allocate. A plugin with an allocator of its own switches the feature `heap` off.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Bytes of the room: untouched ones cost nothing.
const ROOM: usize = 256 * 1024;
/// The alignment of the room, and the largest that it gives.
const ALIGN: usize = 16;

#[repr(align(16))]
struct Room(UnsafeCell<[u8; ROOM]>);

/// An allocator for one thread.
struct Heap {
    room: Room,
    /// Where the next piece begins.
    next: Cell<usize>,
}

// SAFETY: a plugin's instance has one thread. Elsewhere nobody shares one.
unsafe impl Sync for Heap {}

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: Heap = Heap::new();

impl Heap {
    const fn new() -> Self {
        Self {
            room: Room(UnsafeCell::new([0; ROOM])),
            next: Cell::new(0),
        }
    }

    fn base(&self) -> *mut u8 {
        self.room.0.get().cast()
    }

    /// Where in the room this points to, if it does.
    fn place(&self, piece: *mut u8) -> Option<usize> {
        let place = piece.addr().wrapping_sub(self.base().addr());
        (place < ROOM).then_some(place)
    }

    /// The room's next piece; none where it is full.
    fn piece(&self, layout: Layout) -> Option<*mut u8> {
        // Two empty pieces, or an empty one at the end, would have the address of another.
        let size = layout.size().max(1);
        let from = self.next.get().next_multiple_of(layout.align());
        let end = from.checked_add(size)?;
        if layout.align() > ALIGN || end > ROOM {
            return None;
        }
        self.next.set(end);
        // SAFETY: `from` lies within the room.
        Some(unsafe { self.base().add(from) })
    }

    /// Moves the end of the last piece; answers whether this is the last one and there is room.
    fn resize(&self, place: usize, layout: Layout, size: usize) -> bool {
        let last = place + layout.size().max(1) == self.next.get();
        match place.checked_add(size.max(1)) {
            Some(end) if last && end <= ROOM => {
                self.next.set(end);
                true
            }
            _ => false,
        }
    }
}

// SAFETY: pieces of the room do not overlap, since `next` only goes back to the beginning of a
// piece that is freed, or to the new end of one that shrinks, and both are the last ones.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.piece(layout) {
            Some(piece) => piece,
            // SAFETY: the caller's promises are the system's.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.place(piece) {
            Some(place) if place + layout.size().max(1) == self.next.get() => self.next.set(place),
            Some(_) => {}
            // SAFETY: what is not from the room is from the system.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = self.place(piece) else {
            // SAFETY: what is not from the room is from the system.
            return unsafe { System.realloc(piece, layout, size) };
        };
        if self.resize(place, layout, size) || size <= layout.size() {
            return piece;
        }
        // SAFETY: the caller promises that `size` fits a layout; both pieces hold what is copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(piece, layout.size());
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
        let heap = Box::new(Heap::new());
        let mut end = heap.base().addr();
        for (size, align) in [(3, 1), (8, 8), (0, 4), (0, 1), (5, 2), (64, 16)] {
            // SAFETY: the layout's promises hold.
            let piece = unsafe { heap.alloc(layout(size, align)) };
            assert!(heap.place(piece).is_some());
            assert_eq!(piece.addr() % align, 0);
            assert!(piece.addr() >= end);
            end = piece.addr() + size.max(1);
        }
    }

    #[test]
    fn the_last_piece_grows_shrinks_and_is_taken_back() {
        let heap = Box::new(Heap::new());
        // SAFETY: each piece is used with its own layout.
        unsafe {
            let first = heap.alloc(layout(10, 1));
            first.write_bytes(7, 10);
            assert_eq!(heap.realloc(first, layout(10, 1), 20), first);
            let second = heap.alloc(layout(10, 1));
            let moved = heap.realloc(first, layout(20, 1), 40);
            assert!(moved > second && moved.read() == 7 && moved.add(9).read() == 7);
            heap.dealloc(moved, layout(40, 1));
            heap.dealloc(second, layout(10, 1));
            assert_eq!(heap.alloc(layout(10, 1)), second);
        }
    }

    #[test]
    fn what_does_not_fit_is_the_systems() {
        let heap = Box::new(Heap::new());
        // SAFETY: each piece is used with its own layout.
        unsafe {
            for layout in [layout(ROOM + 1, 1), layout(8, 32)] {
                let piece = heap.alloc(layout);
                assert!(heap.place(piece).is_none());
                heap.dealloc(piece, layout);
            }
            let small = heap.alloc(layout(4, 1));
            small.write_bytes(9, 4);
            let large = heap.realloc(small, layout(4, 1), 2 * ROOM);
            assert!(heap.place(large).is_none());
            assert_eq!(large.add(3).read(), 9);
            let larger = heap.realloc(large, layout(2 * ROOM, 1), 3 * ROOM);
            assert_eq!(larger.read(), 9);
            heap.dealloc(larger, layout(3 * ROOM, 1));
        }
    }
}
