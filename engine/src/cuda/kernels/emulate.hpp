// A GPU for tests: every thread of a block is a fiber, warps and blocks meet where a GPU's would, tensor-core fragments
// lie as the PTX manual says, and copies that run by themselves arrive either at once or as late as they may.
// It finds what a GPU would suffer in silence: lanes that part before a shuffle, threads that never reach a barrier,
// memory read before it is written (all of it starts as NaN), wide accesses that are not aligned, blocks of more threads or
// shared memory than a GPU gives.
#pragma once

#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include <ucontext.h>

#define DEVICE inline
#define KERNEL_OF(THREADS, name)                 \
    constexpr unsigned name##_threads = THREADS; \
    extern "C" void name
#define KERNEL_OF_BLOCKS(THREADS, BLOCKS, name) KERNEL_OF(THREADS, name)
#define SHARED_MEMORY(name) unsigned char* name = emulate::shared

struct uint4 {
    unsigned x, y, z, w;
};

// ---------------------------------------------------------------- numbers

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

inline float widen(float x) { return x; }
inline float widen(bf16 x) { return of_bits(uint32_t(x.bits) << 16); }
inline float widen(f16 x) {
    uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    if (exponent == 31) return of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * float(fraction) * 5.9604644775390625e-8f;
    return of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

inline void narrow(float x, float& out) { out = x; }
inline void narrow(float x, bf16& out) {
    uint32_t bits = bits_of(x);
    out.bits = x != x ? 0x7fff : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void narrow(float x, f16& out) {
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) out.bits = 0x7fff;
    else if (size >= 0x477ff000) out.bits = uint16_t(sign | 0x7c00);
    else if (size < 0x38800000) {
        // Subnormal: adding a half makes the processor round at the right place.
        out.bits = uint16_t(sign | (bits_of(of_bits(size) + 0.5f) - 0x3f000000));
    } else out.bits = uint16_t(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}

// ---------------------------------------------------------------- fibers

namespace emulate {

constexpr size_t STACK = 128 * 1024;
constexpr int PAYLOAD = 64;

struct Position {
    unsigned x, y, z;
};

// A copy that is under way.
struct Copy {
    void* to;
    const void* from;
    bool wanted;
};

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool started, done;
    Position position;
    unsigned index;
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

struct Warp {
    unsigned arrived, generation;
    const char* what[2];
    alignas(16) unsigned char payload[2][32][PAYLOAD];
};

extern thread_local Fiber* current;
extern thread_local Position block_index, block_size, grid_size;
extern thread_local unsigned char* shared;
extern thread_local Warp* warps;
extern thread_local bool copies_at_once;

[[noreturn]] void die(const char* why, const char* what);
void yield();
void sync_block();

// Meets the other lanes of the warp; returns what each of them brought.
template <class P>
const unsigned char (*meet(const char* what, const P& mine))[PAYLOAD] {
    static_assert(sizeof(P) <= PAYLOAD);
    Warp& warp = warps[current->index / 32];
    unsigned generation = warp.generation, side = generation % 2;
    if (warp.arrived == 0) warp.what[side] = what;
    else if (warp.what[side] != what && strcmp(warp.what[side], what) != 0) die("the lanes of a warp parted before", what);
    memcpy(warp.payload[side][current->index % 32], &mine, sizeof mine);
    if (++warp.arrived == 32) {
        warp.arrived = 0;
        warp.generation++;
    } else {
        while (warp.generation == generation) yield();
    }
    return warp.payload[side];
}

inline unsigned lane() { return current->index % 32; }

template <class P>
P brought(const unsigned char (*payload)[PAYLOAD], unsigned lane) {
    P value;
    memcpy(&value, payload[lane], sizeof value);
    return value;
}

inline void carry_out(const Copy& copy) {
    if (copy.wanted) memcpy(copy.to, copy.from, 16);
    else memset(copy.to, 0, 16);
}

}  // namespace emulate

#define threadIdx (emulate::current->position)
#define blockIdx (emulate::block_index)
#define blockDim (emulate::block_size)
#define gridDim (emulate::grid_size)

inline float exp2_fast(float x) { return exp2f(x); }
inline float reciprocal_fast(float x) { return 1.0f / x; }

inline void expect_aligned(const void* place) {
    if (uintptr_t(place) % 16 != 0) emulate::die("not aligned to 16 bytes:", "a load or store of 16 bytes");
}

inline float shuffle_xor(float x, int mask) {
    return emulate::brought<float>(emulate::meet("shuffle_xor", x), emulate::lane() ^ unsigned(mask));
}
inline float shuffle_from(float x, int lane) { return emulate::brought<float>(emulate::meet("shuffle_from", x), unsigned(lane)); }
inline void sync_warp() { emulate::meet("sync_warp", 0); }
inline void sync_block() { emulate::sync_block(); }

// ---------------------------------------------------------------- copies

inline void copy_16(void* to, const void* from, bool wanted) {
    if (uintptr_t(to) % 16 != 0 || uintptr_t(from) % 16 != 0) emulate::die("not aligned to 16 bytes:", "copy_16");
    emulate::Copy copy{to, from, wanted};
    if (emulate::copies_at_once) emulate::carry_out(copy);
    else emulate::current->open.push_back(copy);
}
inline void copies_commit() {
    emulate::current->groups.push_back(std::move(emulate::current->open));
    emulate::current->open.clear();
}
template <int PENDING>
inline void copies_wait() {
    auto& groups = emulate::current->groups;
    while (groups.size() > PENDING) {
        for (const auto& copy : groups.front()) emulate::carry_out(copy);
        groups.erase(groups.begin());
    }
}

// ---------------------------------------------------------------- tensor cores

inline void load_fragments(unsigned (&out)[4], const void* row, bool transposed) {
    if (uintptr_t(row) % 16 != 0) emulate::die("not aligned to 16 bytes:", "load_matrices");
    auto rows = emulate::meet(transposed ? "load_matrices_transposed" : "load_matrices", row);
    unsigned lane = emulate::lane();
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        uint16_t pair[2];
        for (unsigned i = 0; i < 2; i++) {
            unsigned row = transposed ? lane % 4 * 2 + i : lane / 4, column = transposed ? lane / 4 : lane % 4 * 2 + i;
            pair[i] = emulate::brought<const uint16_t*>(rows, matrix * 8 + row)[column];
        }
        out[matrix] = unsigned(pair[0]) | unsigned(pair[1]) << 16;
    }
}
inline void load_matrices(unsigned (&out)[4], const void* row) { load_fragments(out, row, false); }
inline void load_matrices_transposed(unsigned (&out)[4], const void* row) { load_fragments(out, row, true); }

template <class T>
inline void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, T) {
    struct Fragments {
        unsigned a[4], b[2];
    } mine{{a[0], a[1], a[2], a[3]}, {b0, b1}};
    auto all = emulate::meet("multiply_add", mine);
    auto number = [](unsigned pair, unsigned which) {
        T number;
        number.bits = uint16_t(pair >> 16 * which);
        return widen(number);
    };
    unsigned group = emulate::lane() / 4, member = emulate::lane() % 4;
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = group + i / 2 * 8, column = member * 2 + i % 2;
        for (unsigned k = 0; k < 16; k++) {
            // A: row r, column k is in lane (r % 8) * 4 + (k % 8) / 2, register (r / 8) + 2 * (k / 8), half k % 2.
            auto of_a = emulate::brought<Fragments>(all, row % 8 * 4 + k % 8 / 2).a[row / 8 + k / 8 * 2];
            // B: row k, column n is in lane n * 4 + (k % 8) / 2, register k / 8, half k % 2.
            auto of_b = emulate::brought<Fragments>(all, column * 4 + k % 8 / 2).b[k / 8];
            sum[i] += number(of_a, k % 2) * number(of_b, k % 2);
        }
    }
}
