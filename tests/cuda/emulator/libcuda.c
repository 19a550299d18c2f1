/* An emulated CUDA driver in main memory: the functions that PixelRT's two drivers call, and no kernels.
 *
 * What it is strict about: every call needs the right context on the calling thread; streams work later, each in
 * a thread of its own; addresses of the GPU are none of the host; every access is checked, when it is asked for
 * and when it is done; what is freed twice is an error, and what is never freed is counted.
 *
 *     cc -shared -fPIC -pthread -Wl,-soname,libcuda.so.1 libcuda.c -o libcuda.so.1 -ldl
 *
 * Types are those of cuda.h, with every handle a pointer. Codes: CUresult. The functions at the end are for tests.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
       CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901, CAPTURE_ISOLATION = 905,
       CAPTURE_WRONG_THREAD = 908 };
enum { DEVICES = 2, DEPTH = 16, DISABLE_TIMING = 2, DEVICEMAP = 2, LEAST_PRIORITY = 0, GREATEST_PRIORITY = -5 };

typedef uint64_t address_t;
struct context { int device, holders; };
struct block { struct block *next; struct context *context; address_t device; char *data; size_t size; int host; };
struct event { struct context *context; unsigned flags; long recorded, done; double time; int references, arriving; };
struct op {
    struct op *next;
    enum { COPY, RECORD, WAIT, ARRIVE } kind;
    address_t target, source; /* resolved when it is done: a block may be gone by then */
    size_t size;
    struct event *event;
    long number;
};
struct graph { struct op *ops; };
struct stream {
    struct stream *next;
    struct context *context;
    struct op *ops;
    int pending, closing, invalidated;
    struct graph *capture;
    pthread_t capturer;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct context contexts[DEVICES] = {{0, 0}, {1, 0}};
static struct block *blocks;
static struct stream *streams;
static address_t next_address = 0xD00000000000;
static int initialized, sticky, fail_code;
static char fail_function[64];
static long total_bytes = 1 << 28, delay_us = 300, num_devices = 1, integrated = 0, maps = 1, version = 13000;
static long used, live_events, live_graphs, live_templates, misused;
static __thread struct context *stack[DEPTH];
static __thread int depth;
static __thread struct stream *capturing;

static struct context *current(void) { return depth ? stack[depth - 1] : NULL; }

/* What every function begins with. `needs` is 1 if it needs a context. */
static int enter(const char *function, int needs)
{
    if (*fail_function && !strncmp(function, fail_function, strlen(fail_function))) {
        if (fail_code >= 700 && fail_code < 720) sticky = fail_code;
        return fail_code;
    }
    if (!initialized) return NOT_INITIALIZED;
    if (!needs) return 0;
    if (sticky) return sticky;
    return current() && current()->holders ? 0 : INVALID_CONTEXT;
}
#define ENTER(needs) do { int code = enter(__func__, needs); if (code) return code; } while (0)
#define LOCKED(expression) ({ pthread_mutex_lock(&lock); int code_ = (expression); \
                              pthread_mutex_unlock(&lock); code_; })

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* ---- memory */

/* Main memory behind an address of the GPU or of page-locked memory; NULL if it does not lie in one block. */
static char *resolve(address_t address, size_t size, int of_gpu)
{
    for (struct block *block = blocks; block; block = block->next) {
        address_t start = of_gpu ? block->device : (address_t)block->data;
        int seen = of_gpu ? block->device != 0 : block->host;
        if (seen && address >= start && address - start + size <= block->size) return block->data + (address - start);
    }
    return NULL;
}

static char *either(address_t address, size_t size)
{
    char *found = resolve(address, size, 1);
    return found ? found : resolve(address, size, 0);
}

static int allocate(size_t size, int host, int mapped, struct block **result)
{
    if (!size) return INVALID_VALUE;
    if (capturing) { capturing->invalidated = 1; return CAPTURE_UNSUPPORTED; }
    if (used + (long)size > total_bytes) return OUT_OF_MEMORY;
    struct block *block = calloc(1, sizeof *block);
    *block = (struct block){blocks, current(), 0, malloc(size), size, host};
    memset(block->data, 0xA5, size);
    if (!host || mapped) {
        block->device = next_address;
        next_address += (size + 1023) / 512 * 512; /* a gap behind each, so that an overrun is seen */
    }
    used += size;
    blocks = block;
    *result = block;
    return 0;
}

static int release(address_t address, int host)
{
    for (struct block **place = &blocks; *place; place = &(*place)->next) {
        struct block *block = *place;
        if (block->host != host || (host ? (address_t)block->data : block->device) != address) continue;
        if (block->context != current()) return INVALID_CONTEXT;
        *place = block->next;
        used -= block->size;
        free(block->data);
        free(block);
        return 0;
    }
    misused++;
    return INVALID_VALUE;
}

int cuMemAlloc_v2(address_t *address, size_t size)
{
    ENTER(1);
    struct block *block;
    int code = LOCKED(allocate(size, 0, 0, &block));
    if (!code) *address = block->device;
    return code;
}

int cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
    ENTER(1);
    struct block *block;
    int code = LOCKED(allocate(size, 1, flags & DEVICEMAP, &block));
    if (!code) *pointer = block->data;
    return code;
}

static int device_pointer(address_t *address, void *pointer)
{
    for (struct block *block = blocks; block; block = block->next)
        if (block->host && block->data == pointer && block->device) return *address = block->device, 0;
    return INVALID_VALUE;
}

int cuMemHostGetDevicePointer_v2(address_t *address, void *pointer, unsigned flags)
{
    ENTER(1);
    return LOCKED(device_pointer(address, pointer));
}

int cuMemFree_v2(address_t address) { ENTER(1); return LOCKED(release(address, 0)); }
int cuMemFreeHost(void *pointer) { ENTER(1); return LOCKED(release((address_t)pointer, 1)); }

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    ENTER(1);
    *free_bytes = total_bytes - used;
    *total = total_bytes;
    return 0;
}

/* ---- streams */

static void drop_event(struct event *event) { if (!--event->references) free(event); }

static void run(struct op *op)
{
    if (op->kind == COPY) {
        pthread_mutex_unlock(&lock);
        usleep(delay_us);
        pthread_mutex_lock(&lock);
        char *target = either(op->target, op->size), *source = either(op->source, op->size);
        if (target && source) memmove(target, source, op->size);
        else sticky = ILLEGAL_ADDRESS;
    } else if (op->kind == WAIT) {
        while (op->event->done < op->number && !sticky) pthread_cond_wait(&changed, &lock);
    } else if (op->kind == RECORD || (op->number == op->event->recorded && !--op->event->arriving)) {
        op->event->done = op->number;
        op->event->time = now_ms();
    }
    if (op->event) drop_event(op->event);
}

static void *work(void *argument)
{
    struct stream *stream = argument;
    pthread_mutex_lock(&lock);
    while (stream->ops || !stream->closing) {
        struct op *op = stream->ops;
        if (!op) { pthread_cond_wait(&changed, &lock); continue; }
        if (!sticky) run(op);
        stream->ops = op->next;
        stream->pending--;
        free(op);
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    free(stream);
    return NULL;
}

static void append(struct op **list, struct op op)
{
    while (*list) list = &(*list)->next;
    op.next = NULL;
    *list = memcpy(malloc(sizeof op), &op, sizeof op);
}

static int enqueue(struct stream *stream, struct op op)
{
    if (stream->context != current()) return INVALID_CONTEXT;
    if (stream->capture && op.kind == COPY) return append(&stream->capture->ops, op), 0;
    if (stream->capture) { /* order within one stream needs no marks; forks are not emulated */
        if (op.kind == WAIT && op.event->recorded) { stream->invalidated = 1; return CAPTURE_ISOLATION; }
        return 0;
    }
    if (op.kind == RECORD) op.number = ++op.event->recorded;
    if (op.kind == WAIT) op.number = op.event->recorded;
    if (op.event) op.event->references++;
    append(&stream->ops, op);
    stream->pending++;
    pthread_cond_broadcast(&changed);
    return 0;
}

/* The default stream is a stream like the others here, made at first use. */
static struct stream *find_stream(struct stream *handle)
{
    static struct stream *legacy[DEVICES];
    if ((uintptr_t)handle > 2) {
        struct stream *stream = streams;
        while (stream && stream != handle) stream = stream->next;
        return stream;
    }
    struct stream **stream = &legacy[current()->device];
    if (!*stream) {
        pthread_t thread;
        *stream = calloc(1, sizeof **stream);
        (*stream)->context = current();
        pthread_create(&thread, NULL, work, *stream);
        pthread_detach(thread);
    }
    return *stream;
}

int cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER(1);
    *least = LEAST_PRIORITY, *greatest = GREATEST_PRIORITY;
    return 0;
}

int cuStreamCreateWithPriority(struct stream **result, unsigned flags, int priority)
{
    ENTER(1);
    if (flags != 1 || priority > LEAST_PRIORITY || priority < GREATEST_PRIORITY) return INVALID_VALUE;
    struct stream *stream = calloc(1, sizeof *stream);
    pthread_t thread;
    stream->context = current();
    pthread_mutex_lock(&lock);
    stream->next = streams, streams = stream;
    pthread_mutex_unlock(&lock);
    pthread_create(&thread, NULL, work, stream);
    pthread_detach(thread);
    *result = stream;
    return 0;
}

int cuStreamCreate(struct stream **result, unsigned flags) { return cuStreamCreateWithPriority(result, flags, 0); }

static int close_stream(struct stream *handle)
{
    for (struct stream **place = &streams; *place; place = &(*place)->next) {
        if (*place != handle) continue;
        if (handle->context != current()) return INVALID_CONTEXT;
        *place = handle->next;
        handle->closing = 1; /* it finishes its work first */
        pthread_cond_broadcast(&changed);
        return 0;
    }
    misused++;
    return INVALID_HANDLE;
}

int cuStreamDestroy_v2(struct stream *handle) { ENTER(1); return LOCKED(close_stream(handle)); }

static int synchronize(struct stream *handle)
{
    struct stream *stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) { stream->invalidated = 1; return CAPTURE_UNSUPPORTED; }
    while (stream->pending && !sticky) pthread_cond_wait(&changed, &lock);
    return sticky;
}

int cuStreamSynchronize(struct stream *handle) { ENTER(1); return LOCKED(synchronize(handle)); }

/* All captures of the context are lost when somebody waits for it, or marks all that is in it. */
static int refuse_captures(void)
{
    int code = 0;
    for (struct stream *stream = streams; stream; stream = stream->next)
        if (stream->capture && stream->context == current()) stream->invalidated = 1, code = CAPTURE_UNSUPPORTED;
    return code;
}

int cuCtxSynchronize(void)
{
    ENTER(1);
    int code = LOCKED(refuse_captures());
    if (code) return code;
    pthread_mutex_lock(&lock);
    for (struct stream *stream = streams; stream && !sticky;) {
        if (stream->pending) { pthread_cond_wait(&changed, &lock); stream = streams; }
        else stream = stream->next;
    }
    pthread_mutex_unlock(&lock);
    return sticky;
}

static int copy(address_t target, address_t source, size_t size, struct stream *handle)
{
    struct stream *stream = find_stream(handle);
    if (!stream) return INVALID_HANDLE;
    if (!either(target, size) || !either(source, size)) return INVALID_VALUE;
    return enqueue(stream, (struct op){.kind = COPY, .target = target, .source = source, .size = size});
}

int cuMemcpyHtoDAsync_v2(address_t target, void *source, size_t size, struct stream *stream)
{
    ENTER(1);
    return LOCKED(resolve(target, size, 1) ? copy(target, (address_t)source, size, stream) : INVALID_VALUE);
}

int cuMemcpyDtoHAsync_v2(void *target, address_t source, size_t size, struct stream *stream)
{
    ENTER(1);
    return LOCKED(resolve(source, size, 1) ? copy((address_t)target, source, size, stream) : INVALID_VALUE);
}

int cuMemcpyDtoDAsync_v2(address_t target, address_t source, size_t size, struct stream *stream)
{
    ENTER(1);
    return LOCKED(resolve(target, size, 1) && resolve(source, size, 1) ? copy(target, source, size, stream)
                                                                       : INVALID_VALUE);
}

/* ---- events */

int cuEventCreate(struct event **result, unsigned flags)
{
    ENTER(1);
    *result = calloc(1, sizeof **result);
    **result = (struct event){.context = current(), .flags = flags, .references = 1};
    __atomic_fetch_add(&live_events, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int destroy_event(struct event *event)
{
    if (event->context != current()) return INVALID_CONTEXT;
    live_events--;
    drop_event(event);
    return 0;
}

int cuEventDestroy_v2(struct event *event) { ENTER(1); return LOCKED(destroy_event(event)); }

static int mark(struct event *event, struct stream *handle, int kind)
{
    struct stream *stream = find_stream(handle);
    if (!stream || event->context != stream->context) return INVALID_HANDLE;
    return enqueue(stream, (struct op){.kind = kind, .event = event});
}

int cuEventRecord(struct event *event, struct stream *stream) { ENTER(1); return LOCKED(mark(event, stream, RECORD)); }

/* The event has come when every stream has come to it. */
static int mark_all(struct context *context, struct event *event)
{
    int code = event->context == context && context == current() ? refuse_captures() : INVALID_HANDLE;
    if (code) return code;
    struct op op = {.kind = ARRIVE, .event = event, .number = ++event->recorded};
    event->arriving = 1;
    for (struct stream *stream = streams; stream; stream = stream->next)
        if (stream->context == context) event->arriving++, enqueue(stream, op);
    return enqueue(find_stream(NULL), op);
}

int cuCtxRecordEvent(struct context *context, struct event *event)
{
    ENTER(1);
    return LOCKED(mark_all(context, event));
}

int cuStreamWaitEvent(struct stream *stream, struct event *event, unsigned flags)
{
    ENTER(1);
    return LOCKED(mark(event, stream, WAIT));
}

int cuEventQuery(struct event *event)
{
    ENTER(1);
    return LOCKED(event->done < event->recorded ? NOT_READY : 0);
}

int cuEventSynchronize(struct event *event)
{
    ENTER(1);
    pthread_mutex_lock(&lock);
    long number = event->recorded;
    while (event->done < number && !sticky) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return sticky;
}

static int elapsed(float *ms, struct event *start, struct event *end)
{
    if ((start->flags | end->flags) & DISABLE_TIMING || !start->recorded || !end->recorded) return INVALID_HANDLE;
    if (start->done < start->recorded || end->done < end->recorded) return NOT_READY;
    *ms = end->time - start->time;
    return 0;
}

int cuEventElapsedTime(float *ms, struct event *start, struct event *end)
{
    ENTER(1);
    return LOCKED(elapsed(ms, start, end));
}

int cuEventElapsedTime_v2(float *ms, struct event *start, struct event *end)
{
    return cuEventElapsedTime(ms, start, end);
}

/* ---- graphs */

int cuStreamBeginCapture_v2(struct stream *stream, int mode)
{
    ENTER(1);
    if (mode != 1 || stream->capture || stream->context != current()) return INVALID_VALUE;
    pthread_mutex_lock(&lock);
    stream->capture = calloc(1, sizeof *stream->capture);
    stream->invalidated = 0;
    stream->capturer = pthread_self();
    capturing = stream;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void free_graph(struct graph *graph)
{
    for (struct op *op = graph->ops, *next; op; op = next) { next = op->next; free(op); }
    free(graph);
}

int cuStreamEndCapture(struct stream *stream, struct graph **result)
{
    *result = NULL;
    ENTER(1);
    if (!stream->capture) return INVALID_VALUE;
    if (!pthread_equal(stream->capturer, pthread_self())) return CAPTURE_WRONG_THREAD;
    struct graph *graph = stream->capture;
    stream->capture = NULL;
    capturing = NULL;
    if (stream->invalidated) { free_graph(graph); return CAPTURE_INVALIDATED; }
    __atomic_fetch_add(&live_templates, 1, __ATOMIC_SEQ_CST);
    *result = graph;
    return 0;
}

int cuGraphInstantiateWithFlags(struct graph **result, struct graph *template, unsigned long long flags)
{
    ENTER(1);
    *result = calloc(1, sizeof **result);
    for (struct op *op = template->ops; op; op = op->next) append(&(*result)->ops, *op);
    __atomic_fetch_add(&live_graphs, 1, __ATOMIC_SEQ_CST);
    return 0;
}

int cuGraphDestroy(struct graph *graph)
{
    ENTER(1);
    free_graph(graph);
    __atomic_fetch_sub(&live_templates, 1, __ATOMIC_SEQ_CST);
    return 0;
}

int cuGraphExecDestroy(struct graph *graph)
{
    ENTER(1);
    free_graph(graph);
    __atomic_fetch_sub(&live_graphs, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int launch(struct graph *graph, struct stream *handle)
{
    struct stream *stream = find_stream(handle);
    int code = stream ? 0 : INVALID_HANDLE;
    for (struct op *op = graph->ops; op && !code; op = op->next) code = enqueue(stream, *op);
    return code;
}

int cuGraphLaunch(struct graph *graph, struct stream *stream) { ENTER(1); return LOCKED(launch(graph, stream)); }

/* ---- device and context */

int cuInit(unsigned flags)
{
    if (num_devices == 0) return NO_DEVICE;
    initialized = 1;
    ENTER(0);
    return 0;
}

int cuDriverGetVersion(int *result) { *result = version; return 0; }
int cuDeviceGetCount(int *count) { ENTER(0); *count = num_devices; return 0; }

int cuDeviceGet(int *device, int ordinal)
{
    ENTER(0);
    if (ordinal < 0 || ordinal >= num_devices) return INVALID_DEVICE;
    *device = ordinal;
    return 0;
}

int cuDeviceGetName(char *name, int length, int device)
{
    ENTER(0);
    snprintf(name, length, "Emulated GPU %d", device);
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) { ENTER(0); *bytes = total_bytes; return 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    ENTER(0);
    switch (attribute) {
    case 16: *value = 16; return 0; /* multiprocessors */
    case 18: *value = integrated; return 0;
    case 19: *value = maps; return 0;
    case 75: *value = 8; return 0; /* compute capability */
    case 76: *value = 7; return 0;
    default: return INVALID_VALUE;
    }
}

int cuDeviceComputeCapability(int *major, int *minor, int device) { ENTER(0); *major = 8, *minor = 7; return 0; }

int cuDevicePrimaryCtxRetain(struct context **result, int device)
{
    ENTER(0);
    __atomic_fetch_add(&contexts[device].holders, 1, __ATOMIC_SEQ_CST);
    *result = &contexts[device];
    return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER(0);
    if (__atomic_fetch_sub(&contexts[device].holders, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    contexts[device].holders = 0;
    misused++;
    return INVALID_CONTEXT;
}

int cuCtxPushCurrent_v2(struct context *context)
{
    ENTER(0);
    if (!context || !context->holders || depth == DEPTH) return INVALID_CONTEXT;
    stack[depth++] = context;
    return 0;
}

int cuCtxPopCurrent_v2(struct context **result)
{
    ENTER(0);
    if (!depth) return INVALID_CONTEXT;
    *result = stack[--depth];
    return 0;
}

int cuCtxGetCurrent(struct context **result) { ENTER(0); *result = current(); return 0; }

/* ---- errors */

static const struct { int code; const char *name, *text; } ERRORS[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
    {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work in another stream"},
    {908, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

static int describe(int code, const char **result, int text)
{
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (ERRORS[i].code == code) return *result = text ? ERRORS[i].text : ERRORS[i].name, 0;
    *result = NULL;
    return INVALID_VALUE;
}

int cuGetErrorName(int code, const char **name) { return describe(code, name, 0); }
int cuGetErrorString(int code, const char **text) { return describe(code, text, 1); }

/* What is not emulated is not found, and cuda.bindings then says so when it is called. */
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
    static const char *ENDINGS[] = {"_v2", "", "WithFlags"};
    char name[128];
    Dl_info self;
    dladdr(enter, &self);
    void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    *function = NULL;
    for (int i = 0; i < 3 && !*function; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, ENDINGS[i]);
        *function = dlsym(library, name);
    }
    if (status) *status = *function ? 0 : 1;
    return *function ? 0 : NOT_FOUND;
}

int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}

/* ---- for tests */

/* Let the functions of a name, or whose names begin with it, fail until an empty one is given. Errors from 700 on
 * stay, as they do in CUDA. */
void emulator_fail(const char *function, int code)
{
    snprintf(fail_function, sizeof fail_function, "%s", function);
    fail_code = code;
}

static long count_blocks(int host)
{
    long count = 0;
    for (struct block *block = blocks; block; block = block->next) count += block->host == host;
    return count;
}

static long count_streams(void)
{
    long count = 0;
    for (struct stream *stream = streams; stream; stream = stream->next) count++;
    return count;
}

long emulator_get(const char *what)
{
    if (!strcmp(what, "device memory")) return count_blocks(0);
    if (!strcmp(what, "host memory")) return count_blocks(1);
    if (!strcmp(what, "stream")) return count_streams();
    if (!strcmp(what, "event")) return live_events;
    if (!strcmp(what, "graph")) return live_graphs;
    if (!strcmp(what, "template")) return live_templates;
    if (!strcmp(what, "holders")) return contexts[0].holders + contexts[1].holders;
    if (!strcmp(what, "depth")) return depth; /* of this thread */
    if (!strcmp(what, "misused")) return misused;
    return -1;
}

void emulator_set(const char *what, long value)
{
    if (!strcmp(what, "event")) live_events = value;
    if (!strcmp(what, "total_bytes")) total_bytes = value;
    if (!strcmp(what, "delay_us")) delay_us = value;
    if (!strcmp(what, "devices")) num_devices = value;
    if (!strcmp(what, "integrated")) integrated = value;
    if (!strcmp(what, "maps")) maps = value;
    if (!strcmp(what, "version")) version = value;
    if (!strcmp(what, "primary contexts")) for (int i = 0; i < DEVICES; i++) contexts[i].holders = value;
}

/* As a new process would find it. */
void emulator_reset(void)
{
    pthread_mutex_lock(&lock);
    for (struct block *block = blocks, *next; block; block = next) { next = block->next; free(block->data); free(block); }
    for (struct stream *stream = streams; stream; stream = stream->next) stream->closing = 1;
    blocks = NULL, streams = NULL;
    used = live_events = live_graphs = live_templates = misused = 0;
    sticky = 0, fail_function[0] = 0;
    total_bytes = 1 << 28, delay_us = 300, num_devices = 1, integrated = 0, maps = 1, version = 13000;
    contexts[0].holders = contexts[1].holders = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}
