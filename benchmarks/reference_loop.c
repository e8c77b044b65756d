/* The shortest honest loop around ONNX Runtime: what a native benchmark would measure.
 *
 * Compiled to a shared library and loaded by loop.py, so that its blocks can be interleaved with rtfleet's in one
 * process. OrtApi is a stable table of function pointers; the numbers below are positions in it, so that no header is
 * needed. Buffers are bound once; states swap between two sets, as rtfleet does it. A frame is: copy one input, Run().
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    RUN = 9,
    CREATE_SESSION_OPTIONS = 10,
    SET_INTRA_OP_NUM_THREADS = 24,
    CREATE_TENSOR_WITH_DATA = 49,
    CREATE_CPU_MEMORY_INFO = 69,
};
enum { FLOAT = 1, WARNING = 2, ARENA_ALLOCATOR = 1, MEM_TYPE_DEFAULT = 0, MAX_PAIRS = 16, API_VERSION = 20 };

typedef void *Status;
typedef struct {
    const void *const *(*get_api)(uint32_t);
    const char *(*version)(void);
} ApiBase;

typedef Status (*RunFunction)(void *, void *, const char *const *, void *const *, size_t, const char *const *, size_t,
                              void **);

typedef struct {
    RunFunction run;
    void *session;
    size_t pairs, frame_bytes;
    char names[2 * MAX_PAIRS][16];
    const char *input_names[MAX_PAIRS], *output_names[MAX_PAIRS];
    void *inputs[2][MAX_PAIRS], *outputs[2][MAX_PAIRS];
    float *frame, *score;
    int turn;
} Loop;

static const void *const *api;

static int failed(const char *what, Status status) {
    if (!status) return 0;
    const char *(*message)(Status) = (const char *(*)(Status))api[GET_ERROR_MESSAGE];
    fprintf(stderr, "%s: %s\n", what, message(status));
    return 1;
}

static void *tensor(void *memory, float *data, int64_t length) {
    Status (*create)(void *, void *, size_t, const int64_t *, size_t, int, void **) = api[CREATE_TENSOR_WITH_DATA];
    int64_t dims[2] = {1, length};
    void *value = NULL;
    return failed("tensor", create(memory, data, length * sizeof(float), dims, 2, FLOAT, &value)) ? NULL : value;
}

static float *buffer(int64_t length) {
    float *data = NULL;
    if (posix_memalign((void **)&data, 64, length * sizeof(float))) return NULL;
    return memset(data, 0, length * sizeof(float));
}

/* A model with inputs x, h1.. and outputs y, g1.., all [1, length]; NULL and a line on stderr where it fails. */
Loop *loop_open(const char *library, const char *model, int threads, int pairs, int64_t length) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return fprintf(stderr, "%s\n", dlerror()), NULL;
    const ApiBase *(*get_base)(void) = (const ApiBase *(*)(void))dlsym(handle, "OrtGetApiBase");
    if (!get_base || !(api = get_base()->get_api(API_VERSION)) || pairs > MAX_PAIRS) return NULL;

    void *env = NULL, *options = NULL, *memory = NULL;
    Status (*create_env)(int, const char *, void **) = api[CREATE_ENV];
    Status (*create_options)(void **) = api[CREATE_SESSION_OPTIONS];
    Status (*set_threads)(void *, int) = api[SET_INTRA_OP_NUM_THREADS];
    Status (*create_session)(void *, const char *, void *, void **) = api[CREATE_SESSION];
    Status (*create_memory)(int, int, void **) = api[CREATE_CPU_MEMORY_INFO];
    Loop *loop = calloc(1, sizeof *loop);
    if (failed("environment", create_env(WARNING, "loop", &env)) || failed("options", create_options(&options)) ||
        failed("threads", set_threads(options, threads)) ||
        failed("session", create_session(env, model, options, &loop->session)) ||
        failed("memory", create_memory(ARENA_ALLOCATOR, MEM_TYPE_DEFAULT, &memory)))
        return NULL;

    loop->run = (RunFunction)api[RUN];
    loop->pairs = pairs;
    loop->frame_bytes = length * sizeof(float);
    loop->frame = buffer(length);
    loop->score = buffer(length);
    loop->inputs[0][0] = loop->inputs[1][0] = tensor(memory, loop->frame, length);
    loop->outputs[0][0] = loop->outputs[1][0] = tensor(memory, loop->score, length);
    for (int pair = 0; pair < pairs; pair++) {
        char *input = loop->names[2 * pair], *output = loop->names[2 * pair + 1];
        snprintf(input, 16, pair ? "h%d" : "x", pair);
        snprintf(output, 16, pair ? "g%d" : "y", pair);
        loop->input_names[pair] = input;
        loop->output_names[pair] = output;
        if (!pair) continue;
        void *one = tensor(memory, buffer(length), length), *two = tensor(memory, buffer(length), length);
        loop->inputs[0][pair] = loop->outputs[1][pair] = one;
        loop->outputs[0][pair] = loop->inputs[1][pair] = two;
    }
    return loop;
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* `count` frames back to back out of `frames` (as many rows as `rows`), each latency in nanoseconds. 0 is success. */
int loop_block(Loop *loop, const float *frames, int rows, int count, int64_t *latency_ns) {
    int64_t length = loop->frame_bytes / sizeof(float);
    for (int index = 0; index < count; index++) {
        const float *source = frames + (index % rows) * length;
        int64_t start = now();
        memcpy(loop->frame, source, loop->frame_bytes);
        Status status = loop->run(loop->session, NULL, loop->input_names, loop->inputs[loop->turn], loop->pairs,
                                  loop->output_names, loop->pairs, loop->outputs[loop->turn]);
        loop->turn ^= 1;
        latency_ns[index] = now() - start;
        if (failed("run", status)) return 1;
    }
    return 0;
}

/* The score of the last frame, to compare the two loops' results. */
const float *loop_score(const Loop *loop) { return loop->score; }
