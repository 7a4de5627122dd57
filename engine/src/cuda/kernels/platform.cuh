// Machine abstraction: number types, warps, tensor cores, asynchronous copies. nvcc compiles this for a GPU; any C++17
// compiler compiles emulate.hpp instead, to run the same kernels in tests.
#pragma once

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>

using f16 = __half;
using bf16 = __nv_bfloat16;

// A kernel with at most THREADS threads per block.
#define KERNEL_OF(THREADS, name) extern "C" __global__ void __launch_bounds__(THREADS) name
// The same, with registers for at least BLOCKS blocks at a time.
#define KERNEL_OF_BLOCKS(THREADS, BLOCKS, name) extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) name
#define DEVICE __device__ __forceinline__
// Declares the dynamic shared memory of the block.
#define SHARED_MEMORY(name) extern __shared__ __align__(16) unsigned char name[]

DEVICE float widen(float x) { return x; }
DEVICE float widen(f16 x) { return __half2float(x); }
DEVICE float widen(bf16 x) { return __bfloat162float(x); }
DEVICE void narrow(float x, float& out) { out = x; }
DEVICE void narrow(float x, f16& out) { out = __float2half_rn(x); }
DEVICE void narrow(float x, bf16& out) { out = __float2bfloat16_rn(x); }

// 2^x with a relative error up to 2^-22; subnormal results are 0 (PTX ISA, ex2.approx.ftz.f32).
DEVICE float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}
// 1/x within one unit in the last place; 0 for infinity (PTX ISA, rcp.approx.ftz.f32).
DEVICE float reciprocal_fast(float x) {
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
    return reciprocal;
}

DEVICE float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
DEVICE float shuffle_from(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
// Checks the alignment of a 16-byte access; a GPU faults by itself.
DEVICE void expect_aligned(const void*) {}
DEVICE void sync_warp() { __syncwarp(); }
DEVICE void sync_block() { __syncthreads(); }

DEVICE unsigned shared_address(const void* pointer) { return static_cast<unsigned>(__cvta_generic_to_shared(pointer)); }

// Copies 16 bytes to shared memory asynchronously, or zeros if `wanted` is false. Complete after `copies_wait`.
DEVICE void copy_16(void* to, const void* from, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(wanted ? 16 : 0));
}
// Ends a group of copies.
DEVICE void copies_commit() { asm volatile("cp.async.commit_group;"); }
// Waits until at most `PENDING` of this thread's groups are incomplete.
template <int PENDING>
DEVICE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING)); }

// Loads four 8x8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8.
DEVICE void load_matrices(unsigned (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared_address(row)));
}
// The same, each matrix transposed.
DEVICE void load_matrices_transposed(unsigned (&out)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3]) : "r"(shared_address(row)));
}

// sum += a * b, a being 16x16 and b 16x8, in the fragments of mma.m16n8k16.
DEVICE void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, f16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_add(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, bf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else
#include "emulate.hpp"
#endif

// ---------------------------------------------------------------- common to both

constexpr float MINUS_INFINITY = -__builtin_huge_valf();

// Two numbers in the 32 bits of a fragment, the first one low.
template <class T>
DEVICE unsigned pack_pair(float low, float high) {
    T pair[2];
    narrow(low, pair[0]);
    narrow(high, pair[1]);
    unsigned bits;
    memcpy(&bits, pair, sizeof bits);
    return bits;
}

DEVICE float warp_sum(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
    return x;
}

DEVICE float warp_max(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, shuffle_xor(x, mask));
    return x;
}

// Reads COUNT numbers, in loads of 16 bytes where there are eight: then `from` must be aligned to 16 bytes.
template <int COUNT, class T>
DEVICE void load_numbers(const T* from, float (&out)[COUNT]) {
    if constexpr (COUNT == 8) {
        expect_aligned(from);
        uint4 parts[sizeof(T) / 2];
        for (unsigned part = 0; part < sizeof(T) / 2; part++) parts[part] = reinterpret_cast<const uint4*>(from)[part];
        T numbers[8];
        memcpy(numbers, parts, sizeof numbers);
        for (int i = 0; i < 8; i++) out[i] = widen(numbers[i]);
    } else {
        for (int i = 0; i < COUNT; i++) out[i] = widen(from[i]);
    }
}

// Writes COUNT numbers, rounded to T; alignment as above.
template <int COUNT, class T>
DEVICE void store_numbers(T* to, const float (&values)[COUNT]) {
    if constexpr (COUNT == 8) {
        T numbers[8];
        for (int i = 0; i < 8; i++) narrow(values[i], numbers[i]);
        uint4 parts[sizeof(T) / 2];
        memcpy(parts, numbers, sizeof numbers);
        expect_aligned(to);
        for (unsigned part = 0; part < sizeof(T) / 2; part++) reinterpret_cast<uint4*>(to)[part] = parts[part];
    } else {
        for (int i = 0; i < COUNT; i++) narrow(values[i], to[i]);
    }
}
