// The entry points, by the names in kernels.rs. Arguments are pointers, 32-bit numbers and floats.
#include "attention.cuh"
#include "rows.cuh"

#define ROW_KERNELS(T)                                                                                                      \
    KERNEL_OF(128, embed_norm_##T)(const T* words, const T* positions, const unsigned* ids, const unsigned* places, T* out, \
                                  const float* weight, const float* shift, float eps, unsigned rows, unsigned width,        \
                                  unsigned in_memory) {                                                                     \
        embed_norm(words, positions, ids, places, out, NormWeights{weight, shift, eps}, rows, width, in_memory != 0);       \
    }                                                                                                                       \
    KERNEL_OF(128, add_norm_##T)(const T* x, const float* bias, const T* residual, T* out, const float* weight,             \
                                const float* shift, float eps, unsigned rows, unsigned width, unsigned in_memory) {         \
        add_norm(x, bias, residual, out, NormWeights{weight, shift, eps}, rows, width, in_memory != 0);                     \
    }                                                                                                                       \
    KERNEL_OF(128, activate_##T)(T* x, const float* bias, unsigned rows, unsigned width, unsigned activation) {             \
        activate(x, bias, rows, width, activation);                                                                         \
    }                                                                                                                       \
    KERNEL_OF(256, first_tokens_##T)(const T* x, const unsigned* offsets, T* out, unsigned width) {                         \
        first_tokens(x, offsets, out, width);                                                                               \
    }                                                                                                                       \
    KERNEL_OF(256, pool_##T)(const T* x, const unsigned* offsets, float* out, unsigned width, unsigned pooling, unsigned left_out) { \
        pool(x, offsets, out, width, pooling, left_out);                                                                    \
    }                                                                                                                       \
    KERNEL_OF(256, attend_##T)(const T* queries, const T* keys, const T* values, T* out, unsigned query_stride,             \
                              unsigned key_stride, unsigned width, float scale, const unsigned* offsets,                    \
                              const unsigned* tiles, unsigned size, unsigned one_query) {                                   \
        attend(Heads<T>{queries, keys, values, out, query_stride, key_stride, width, scale}, offsets, tiles, size,          \
               one_query != 0);                                                                                             \
    }

#define FLASH_KERNEL(T, SIZE)                                                                                               \
    KERNEL_OF(FLASH_THREADS, flash_##T##_##SIZE)(const T* queries, const T* keys, const T* values, T* out,                  \
                                                unsigned query_stride, unsigned key_stride, unsigned width, float scale,    \
                                                const unsigned* offsets, const unsigned* tiles) {                           \
        flash<T, SIZE>(Heads<T>{queries, keys, values, out, query_stride, key_stride, width, scale}, offsets, tiles);       \
    }

#define FLASH_KERNELS(T) \
    FLASH_KERNEL(T, 16)  \
    FLASH_KERNEL(T, 32)  \
    FLASH_KERNEL(T, 48)  \
    FLASH_KERNEL(T, 64)  \
    FLASH_KERNEL(T, 80)  \
    FLASH_KERNEL(T, 96)  \
    FLASH_KERNEL(T, 128)

using f32 = float;
ROW_KERNELS(f32)
ROW_KERNELS(f16)
ROW_KERNELS(bf16)
FLASH_KERNELS(f16)
FLASH_KERNELS(bf16)
