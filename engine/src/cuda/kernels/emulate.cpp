// The emulated device as a shared library, as emulated.rs loads it: memory, launches, matrix products.
#include "kernels.cu"

#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace emulate {

thread_local Fiber* current;
thread_local Position block_index, block_size, grid_size;
thread_local unsigned char* shared;
thread_local Warp* warps;
thread_local bool copies_at_once;

static thread_local const char* kernel_name = "";
static thread_local jmp_buf scheduler;
static thread_local unsigned at_barrier, alive, barrier_generation;
static thread_local void (*body)(void**);
static thread_local void** arguments;

void die(const char* why, const char* what) {
    fprintf(stderr, "emulated GPU: kernel %s, block %u,%u: %s %s\n", kernel_name, block_index.x, block_index.y, why, what);
    abort();
}

__attribute__((noinline)) void yield() {
    if (_setjmp(current->place) == 0) _longjmp(scheduler, 1);
}

void sync_block() {
    unsigned generation = barrier_generation;
    if (++at_barrier == alive) {
        at_barrier = 0;
        barrier_generation++;
    } else {
        while (barrier_generation == generation) yield();
    }
}

// A fiber serves one thread of every block that comes, without ever returning.
static void run_fiber() {
    for (;;) {
        body(arguments);
        if (!current->open.empty() || !current->groups.empty()) die("a thread ended before its copies:", "copies_wait");
        current->done = true;
        alive--;
        if (alive > 0 && at_barrier == alive) die("some threads ended, others wait at", "sync_block");
        yield();
    }
}

// Grows with every arrival anywhere.
static size_t progress() {
    size_t threads = size_t(block_size.x) * block_size.y, sum = barrier_generation * (threads + 1) + at_barrier + threads - alive;
    for (unsigned warp = 0; warp * 32 < block_size.x * block_size.y; warp++) sum += warps[warp].generation * 33 + warps[warp].arrived;
    return sum;
}

// Lets a fiber run until it waits or ends.
static __attribute__((noinline)) void resume(Fiber& fiber) {
    current = &fiber;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}

// `order` is that in which the threads get to run: 0 ascending, 1 descending, else shuffled by it.
static void run_block(std::vector<Fiber*>& fibers, unsigned order) {
    unsigned count = block_size.x * block_size.y;
    std::vector<unsigned> turns(count);
    for (unsigned i = 0; i < count; i++) turns[i] = order == 1 ? count - 1 - i : i;
    for (unsigned i = count; order > 1 && i > 1; i--) {
        order = order * 1664525u + 1013904223u;
        std::swap(turns[i - 1], turns[(order >> 8) % i]);
    }
    at_barrier = barrier_generation = 0;
    alive = count;
    for (unsigned i = 0; i < count; i++) {
        Fiber& fiber = *fibers[i];
        fiber.done = false;
        fiber.position = {i % block_size.x, i / block_size.x, 0};
        fiber.index = i;
    }
    memset(warps, 0, sizeof(Warp) * ((count + 31) / 32));
    while (alive > 0) {
        size_t before = progress();
        for (unsigned turn : turns)
            if (!fibers[turn]->done) resume(*fibers[turn]);
        if (progress() == before) die("nothing moves:", "threads wait for others that ended or parted");
    }
}

// Returns at least `count` fibers of this thread of the host.
static std::vector<Fiber*>& fibers_for(unsigned count) {
    static thread_local std::vector<Fiber*> fibers;
    while (fibers.size() < count) {
        auto* fiber = new Fiber{};
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        fiber->context.uc_stack.ss_size = STACK;
        makecontext(&fiber->context, run_fiber, 0);
        fibers.push_back(fiber);
    }
    return fibers;
}

// Memory whose end is the end of what may be touched: a byte further is a fault.
static unsigned char* guarded(size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    size_t page = size_t(sysconf(_SC_PAGESIZE)), whole = (bytes + page - 1) / page * page;
    void* pages = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    mprotect(static_cast<unsigned char*>(pages) + whole, page, PROT_NONE);
    memset(pages, 0xff, whole);
    return static_cast<unsigned char*>(pages) + whole - bytes;
}

static void release(void* memory, size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    size_t page = size_t(sysconf(_SC_PAGESIZE)), whole = (bytes + page - 1) / page * page;
    munmap(static_cast<unsigned char*>(memory) + bytes - whole, whole + page);
}

struct Entry {
    std::string name;
    std::vector<unsigned> sizes;
    unsigned threads;
    void (*call)(void**);
};

template <auto F, class... A, size_t... I>
static void call_with(void (*)(A...), void** values, std::index_sequence<I...>) {
    F(*static_cast<A*>(values[I])...);
}
template <auto F>
static void call(void** values) {
    [&]<class... A>(void (*f)(A...)) { call_with<F>(f, values, std::index_sequence_for<A...>()); }(F);
}
template <class... A>
static std::vector<unsigned> sizes_of(void (*)(A...)) { return {unsigned(sizeof(A))...}; }

#define ENTRY(name) Entry{#name, sizes_of(name), name##_threads, call<name>}
#define ROW_ENTRIES(T)                                                                                                      \
    ENTRY(embed_norm_##T), ENTRY(add_norm_##T), ENTRY(begin_sum_##T), ENTRY(add_to_sum_##T), ENTRY(rotate_##T),             \
        ENTRY(activate_##T), ENTRY(gate_##T), ENTRY(select_rows_##T), ENTRY(pool_##T), ENTRY(attend_##T)
#define FLASH_ENTRIES_OF(name, T)                                                                                           \
    ENTRY(name##_##T##_16), ENTRY(name##_##T##_32), ENTRY(name##_##T##_48), ENTRY(name##_##T##_64), ENTRY(name##_##T##_80), \
        ENTRY(name##_##T##_96), ENTRY(name##_##T##_128)
#define FLASH_ENTRIES(T) FLASH_ENTRIES_OF(flash, T), FLASH_ENTRIES_OF(flash_within, T), FLASH_ENTRIES_OF(flash_biased, T), \
    ENTRY(flash_##T##_256), ENTRY(flash_within_##T##_256)
// What the smallest of the supported GPUs gives a block, and the highest grid.
constexpr unsigned SHARED_BYTES_MAX = 99 * 1024, GRID_Y_MAX = 65535;
static const std::vector<Entry> ENTRIES = {ROW_ENTRIES(f32), ROW_ENTRIES(f16), ROW_ENTRIES(bf16), FLASH_ENTRIES(f16), FLASH_ENTRIES(bf16)};

template <class T>
static void multiply(const T* x, const T* weights, const T* bias, T* out, size_t rows, size_t inputs, size_t outputs) {
    std::vector<float> wide(outputs * inputs), row(inputs);
    for (size_t i = 0; i < wide.size(); i++) wide[i] = widen(weights[i]);
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < inputs; i++) row[i] = widen(x[r * inputs + i]);
        for (size_t o = 0; o < outputs; o++) {
            float lanes[16] = {};
            const float* weight = wide.data() + o * inputs;
            size_t i = 0;
            for (; i + 16 <= inputs; i += 16)
                for (size_t lane = 0; lane < 16; lane++) lanes[lane] += row[i + lane] * weight[i + lane];
            for (; i < inputs; i++) lanes[0] += row[i] * weight[i];
            float sum = bias ? widen(bias[o]) : 0;
            for (float lane : lanes) sum += lane;
            narrow(sum, out[r * outputs + o]);
        }
    }
}

}  // namespace emulate

extern "C" void* encaje_alloc(size_t bytes) { return emulate::guarded(bytes); }
extern "C" void encaje_free(void* memory, size_t bytes) { emulate::release(memory, bytes); }

// Returns 0, 1 for an unknown kernel, 2 for arguments that are not those of the kernel, 3 for a launch that a GPU refuses.
extern "C" int encaje_launch(const char* name, const unsigned* grid, const unsigned* block, unsigned shared_bytes, void** values,
                             const unsigned* sizes, unsigned count, unsigned order, unsigned copies_at_once) {
    using namespace emulate;
    const Entry* entry = nullptr;
    for (const auto& known : ENTRIES)
        if (known.name == name) entry = &known;
    if (!entry) return 1;
    if (entry->sizes != std::vector<unsigned>(sizes, sizes + count)) return 2;
    unsigned threads = block[0] * block[1];
    if (threads > entry->threads || shared_bytes > SHARED_BYTES_MAX || grid[1] > GRID_Y_MAX) return 3;
    std::vector<Fiber*>& fibers = fibers_for(threads);
    std::vector<Warp> all_warps((threads + 31) / 32);
    kernel_name = entry->name.c_str();
    body = entry->call;
    arguments = values;
    warps = all_warps.data();
    emulate::copies_at_once = copies_at_once != 0;
    block_size = {block[0], block[1], 1};
    grid_size = {grid[0], grid[1], 1};
    shared = shared_bytes ? guarded(shared_bytes) : nullptr;
    for (unsigned y = 0; y < grid[1]; y++) {
        for (unsigned x = 0; x < grid[0]; x++) {
            block_index = {x, y, 0};
            if (shared_bytes) memset(shared, 0xff, shared_bytes);
            run_block(fibers, order);
        }
    }
    if (shared_bytes) release(shared, shared_bytes);
    return 0;
}

// out = x * weights^T + bias in the number format 0 (f32), 1 (f16) or 2 (bf16), with sums in f32.
extern "C" void encaje_multiply(unsigned format, const void* x, const void* weights, const void* bias, void* out, size_t rows,
                                size_t inputs, size_t outputs) {
    auto as = [&](auto number) {
        using T = decltype(number);
        emulate::multiply(static_cast<const T*>(x), static_cast<const T*>(weights), static_cast<const T*>(bias), static_cast<T*>(out), rows, inputs, outputs);
    };
    if (format == 0) as(float());
    else if (format == 1) as(f16());
    else as(bf16());
}
