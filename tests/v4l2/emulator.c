/* An emulated camera of Video4Linux2, as the kernel's header describes one.
 *
 * Loaded before the C library, it answers for one device file; all else goes on to the C library. A thread fills the
 * buffers that are queued, at the rate that was set; where none is queued, the picture is lost and its number is not
 * given again, as drivers do. What a program does wrong is refused and counted.
 *
 *     cc -shared -fPIC -pthread emulator.c -o emulator.so -ldl
 *     LD_PRELOAD=./emulator.so python ...
 *
 * The functions at the end are for tests.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFERS = 8, BUFFER_BYTES = 1 << 20, PICTURES = 16, RATES = 3 };

struct mode { char code[5]; unsigned height, width, rates[RATES]; };
static const struct mode all_modes[] = {
    {"MJPG", 96, 128, {50, 100}}, {"MJPG", 192, 256, {25}},       {"YUYV", 96, 128, {50, 100}},
    {"YUYV", 192, 256, {10}},     {"UYVY", 96, 128, {100}},       {"NV12", 96, 128, {100}},
    {"YU12", 96, 128, {100}},     {"RGB3", 96, 128, {100}},       {"BGR3", 96, 128, {100}},
    {"GREY", 96, 128, {100}},     {"BA81", 96, 128, {100}},
};
enum { MODES = sizeof all_modes / sizeof *all_modes };

/* What tests set; see `settings`. */
static long open_errno, busy, on_errno, other_size, other_rate, no_rate, stall_at, unplug_at, away, gap_at, damaged_at,
    cut_at, broken_at, clock_kind, padding, capabilities, no_sizes, stepwise, interlaced, granted, zeros, dequeue_errno,
    pull_at;
static char path[512], only[256];
static unsigned char *pictures[PICTURES];
static size_t picture_bytes[PICTURES];
static int num_pictures;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread;
static int camera_fd = -1, peer_fd = -1, memory_fd = -1;
static unsigned char *memory;
static int num_buffers, streaming, gone, sequence;
static long opened, live, misused;
static struct v4l2_pix_format format = {.width = 128, .height = 96, .pixelformat = V4L2_PIX_FMT_YUYV};
static unsigned rate = 100;
static struct { int queued; int done; struct v4l2_buffer filled; } buffers[BUFFERS];
static int queue[BUFFERS], queue_length, done[BUFFERS], done_length;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fail(int code) { errno = code; return -1; }
static int misuse(int code) { misused++; return fail(code); }

static int is_mode(int index) { return !*only || strstr(only, all_modes[index].code); }
static uint32_t code_of(const char *code) { return v4l2_fourcc(code[0], code[1], code[2], code[3]); }

/* The n-th mode with one pixel format, or the first of the n-th pixel format (code 0). */
static const struct mode *find_mode(uint32_t code, unsigned n)
{
    for (int i = 0; i < MODES; i++) {
        if (!is_mode(i) || (code && code != code_of(all_modes[i].code))) continue;
        int first = 1;
        for (int j = 0; j < i; j++) first &= !is_mode(j) || strcmp(all_modes[i].code, all_modes[j].code);
        if (!code && !first) continue;
        if (!n--) return &all_modes[i];
    }
    return NULL;
}

static const struct mode *sized_mode(uint32_t code, unsigned height, unsigned width)
{
    const struct mode *mode;
    for (unsigned n = 0; (mode = find_mode(code, n)); n++)
        if (mode->height == height && mode->width == width) return mode;
    return NULL;
}

static int bytes_per_pixel(uint32_t code)
{
    switch (code) {
    case V4L2_PIX_FMT_YUYV: case V4L2_PIX_FMT_UYVY: return 2;
    case V4L2_PIX_FMT_RGB24: case V4L2_PIX_FMT_BGR24: return 3;
    case V4L2_PIX_FMT_MJPEG: return 0;
    default: return 1;
    }
}

static void lay_out(void)
{
    int planar = format.pixelformat == V4L2_PIX_FMT_NV12 || format.pixelformat == V4L2_PIX_FMT_YUV420;
    format.bytesperline = bytes_per_pixel(format.pixelformat) * format.width;
    if (format.bytesperline) format.bytesperline += padding;
    format.sizeimage = format.bytesperline ? format.bytesperline * format.height * (planar ? 3 : 2) / 2 : 200000;
    format.field = interlaced ? V4L2_FIELD_INTERLACED : V4L2_FIELD_NONE;
}

/* A red corner, and a grey that tells the number of the picture. */
static void fill_raw(unsigned char *out, int number)
{
    unsigned height = format.height, width = format.width, stride = format.bytesperline;
    unsigned char grey = 40 + 5 * (number % 20);
    memset(out, 0xEE, format.sizeimage);
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++) {
            int red = y < height / 4 && x < width / 4;
            unsigned char luma = red ? 81 : grey, u = red ? 90 : 128, v = red ? 240 : 128;
            unsigned char *row = out + y * stride, *chroma = out + height * stride;
            switch (format.pixelformat) {
            case V4L2_PIX_FMT_YUYV: row[2 * x] = luma; row[2 * x + 1] = x % 2 ? v : u; break;
            case V4L2_PIX_FMT_UYVY: row[2 * x + 1] = luma; row[2 * x] = x % 2 ? v : u; break;
            case V4L2_PIX_FMT_NV12: row[x] = luma; chroma[y / 2 * stride + x] = x % 2 ? v : u; break;
            case V4L2_PIX_FMT_YUV420:
                row[x] = luma;
                chroma[y / 2 * (stride / 2) + x / 2] = u;
                chroma[height / 2 * (stride / 2) + y / 2 * (stride / 2) + x / 2] = v;
                break;
            case V4L2_PIX_FMT_RGB24: case V4L2_PIX_FMT_BGR24:
                memset(row + 3 * x, red ? 0 : grey, 3);
                if (red) row[3 * x + (format.pixelformat == V4L2_PIX_FMT_RGB24 ? 0 : 2)] = 255;
                break;
            default: row[x] = luma;
            }
        }
}

static unsigned fill(unsigned char *out, int number)
{
    if (format.pixelformat != V4L2_PIX_FMT_MJPEG) {
        fill_raw(out, number);
        return number == cut_at ? format.sizeimage / 2 : format.sizeimage;
    }
    int index = number % num_pictures;
    size_t size = picture_bytes[index];
    memcpy(out, pictures[index], size);
    if (number == broken_at) memset(out + 2, 0x55, 400);
    if (number == cut_at) return size / 2;
    memset(out + size, 0, zeros);
    return size + zeros;
}

static void stamp(struct v4l2_buffer *buffer)
{
    struct timespec now;
    clock_gettime(clock_kind == 2 ? CLOCK_REALTIME : CLOCK_MONOTONIC, &now);
    buffer->timestamp.tv_sec = clock_kind == 1 ? 0 : now.tv_sec;
    buffer->timestamp.tv_usec = clock_kind == 1 ? 0 : now.tv_nsec / 1000;
    buffer->flags |= clock_kind == 1 ? V4L2_BUF_FLAG_TIMESTAMP_UNKNOWN : V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
}

static void take_picture(void)
{
    int number = sequence++;
    if (gap_at && number == gap_at) number = sequence++ + 2, sequence += 2;
    if (!queue_length) return;
    int index = queue[0];
    memmove(queue, queue + 1, --queue_length * sizeof *queue);
    struct v4l2_buffer *buffer = &buffers[index].filled;
    memset(buffer, 0, sizeof *buffer);
    buffer->index = index;
    buffer->sequence = number;
    buffer->flags = number == damaged_at && number ? V4L2_BUF_FLAG_ERROR : 0;
    stamp(buffer);
    buffer->bytesused = fill(memory + index * BUFFER_BYTES, number);
    buffers[index].queued = 0;
    buffers[index].done = 1;
    done[done_length++] = index;
    if (write(peer_fd, "x", 1) != 1) misused++;
}

static void unplug(void)
{
    gone = 1;
    NEXT(close)(peer_fd);
    peer_fd = -1;
}

static void *run(void *unused)
{
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        next.tv_nsec += 1000000000 / rate;
        next.tv_sec += next.tv_nsec / 1000000000;
        next.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        pthread_mutex_lock(&lock);
        int on = streaming && !gone;
        if (on && unplug_at && sequence >= unplug_at) unplug();
        else if (on && !(stall_at && sequence >= stall_at)) take_picture();
        pthread_mutex_unlock(&lock);
        if (!on) return unused;
    }
}

static void stop(void)
{
    if (streaming) {
        streaming = 0;
        pthread_mutex_unlock(&lock);
        pthread_join(thread, NULL);
        pthread_mutex_lock(&lock);
    }
    queue_length = done_length = 0;
    memset(buffers, 0, sizeof buffers);
}

static int query(struct v4l2_capability *found)
{
    memset(found, 0, sizeof *found);
    strcpy((char *)found->driver, "emulator");
    strcpy((char *)found->card, "Emulated Camera");
    strcpy((char *)found->bus_info, "usb-emulated-1");
    found->device_caps = capabilities ? capabilities : V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
    found->capabilities = found->device_caps | V4L2_CAP_DEVICE_CAPS | V4L2_CAP_META_CAPTURE;
    return 0;
}

static int enumerate_formats(struct v4l2_fmtdesc *found)
{
    const struct mode *mode = find_mode(0, found->index);
    if (!mode || found->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
    found->pixelformat = code_of(mode->code);
    strcpy((char *)found->description, mode->code);
    return 0;
}

static int enumerate_sizes(struct v4l2_frmsizeenum *found)
{
    const struct mode *mode = find_mode(found->pixel_format, found->index);
    if (no_sizes) return fail(ENOTTY);
    if (!mode || (stepwise && found->index)) return fail(EINVAL);
    found->type = stepwise ? V4L2_FRMSIZE_TYPE_STEPWISE : V4L2_FRMSIZE_TYPE_DISCRETE;
    if (stepwise) found->stepwise = (struct v4l2_frmsize_stepwise){32, 256, 2, 32, 192, 2};
    else found->discrete = (struct v4l2_frmsize_discrete){mode->width, mode->height};
    return 0;
}

static int enumerate_rates(struct v4l2_frmivalenum *found)
{
    const struct mode *mode = sized_mode(found->pixel_format, found->height, found->width);
    if (no_sizes || no_rate) return fail(ENOTTY);
    if (stepwise) {
        if (found->index) return fail(EINVAL);
        found->type = V4L2_FRMIVAL_TYPE_STEPWISE;
        found->stepwise = (struct v4l2_frmival_stepwise){{1, 120}, {1, 5}, {1, 120}};
        return 0;
    }
    if (!mode || found->index >= RATES || !mode->rates[found->index]) return fail(EINVAL);
    found->type = V4L2_FRMIVAL_TYPE_DISCRETE;
    found->discrete = (struct v4l2_fract){1, mode->rates[found->index]};
    return 0;
}

static int set_format(struct v4l2_format *wanted)
{
    if (busy || num_buffers) return fail(EBUSY);
    const struct mode *mode = find_mode(wanted->fmt.pix.pixelformat, 0);
    if (!mode) mode = find_mode(0, 0);
    format.pixelformat = code_of(mode->code);
    format.height = wanted->fmt.pix.height;
    format.width = wanted->fmt.pix.width;
    if (other_size || (!stepwise && !sized_mode(format.pixelformat, format.height, format.width))) {
        format.height = mode->height / (other_size ? 2 : 1);
        format.width = mode->width;
    }
    lay_out();
    wanted->fmt.pix = format;
    return 0;
}

static int parameters(struct v4l2_streamparm *wanted, int set)
{
    if (no_rate) return fail(ENOTTY);
    struct v4l2_fract *interval = &wanted->parm.capture.timeperframe;
    if (set && interval->numerator && interval->denominator) rate = interval->denominator / interval->numerator;
    if (set && other_rate) rate = other_rate;
    memset(&wanted->parm, 0, sizeof wanted->parm);
    wanted->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    *interval = (struct v4l2_fract){1, rate};
    return 0;
}

static int request_buffers(struct v4l2_requestbuffers *wanted)
{
    if (busy) return fail(EBUSY);
    if (wanted->memory != V4L2_MEMORY_MMAP || wanted->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return misuse(EINVAL);
    if (wanted->count > BUFFERS) wanted->count = BUFFERS;
    if (granted) wanted->count = granted;
    num_buffers = wanted->count;
    return 0;
}

static int query_buffer(struct v4l2_buffer *buffer)
{
    if (buffer->index >= (unsigned)num_buffers) return misuse(EINVAL);
    buffer->length = BUFFER_BYTES;
    buffer->m.offset = buffer->index * BUFFER_BYTES;
    return 0;
}

static int queue_buffer(struct v4l2_buffer *buffer)
{
    if (buffer->index >= (unsigned)num_buffers || buffers[buffer->index].queued || buffers[buffer->index].done)
        return misuse(EINVAL);
    buffers[buffer->index].queued = 1;
    queue[queue_length++] = buffer->index;
    return 0;
}

static int dequeue_buffer(struct v4l2_buffer *buffer)
{
    char byte;
    if (!streaming) return misuse(EINVAL);
    if (dequeue_errno) return fail(dequeue_errno);
    if (!done_length) return fail(EAGAIN);
    if (recv(camera_fd, &byte, 1, MSG_DONTWAIT) != 1) misused++;
    int index = done[0];
    memmove(done, done + 1, --done_length * sizeof *done);
    buffers[index].done = 0;
    *buffer = buffers[index].filled;
    buffer->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer->memory = V4L2_MEMORY_MMAP;
    buffer->length = BUFFER_BYTES;
    buffer->m.offset = index * BUFFER_BYTES;
    if (pull_at && buffer->sequence >= (unsigned)pull_at) unplug();
    return 0;
}

static int start(void)
{
    if (on_errno) return fail(on_errno);
    if (!num_buffers || streaming) return misuse(EINVAL);
    streaming = 1;
    sequence = 0;
    return pthread_create(&thread, NULL, run, NULL) ? fail(ENOMEM) : 0;
}

static int answer(unsigned long request, void *argument)
{
    if (gone) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: return query(argument);
    case VIDIOC_ENUM_FMT: return enumerate_formats(argument);
    case VIDIOC_ENUM_FRAMESIZES: return enumerate_sizes(argument);
    case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate_rates(argument);
    case VIDIOC_G_FMT: lay_out(); ((struct v4l2_format *)argument)->fmt.pix = format; return 0;
    case VIDIOC_S_FMT: return set_format(argument);
    case VIDIOC_G_PARM: return parameters(argument, 0);
    case VIDIOC_S_PARM: return parameters(argument, 1);
    case VIDIOC_REQBUFS: return request_buffers(argument);
    case VIDIOC_QUERYBUF: return query_buffer(argument);
    case VIDIOC_QBUF: return queue_buffer(argument);
    case VIDIOC_DQBUF: return dequeue_buffer(argument);
    case VIDIOC_STREAMON: return start();
    case VIDIOC_STREAMOFF: stop(); return 0;
    default: return misuse(ENOTTY);
    }
}

static int open_camera(void)
{
    int pair[2];
    if (open_errno) return fail(open_errno);
    if (gone && away) return away--, fail(ENOENT);
    if (camera_fd >= 0) return fail(EBUSY);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) return -1;
    if (gone) unplug_at = pull_at = 0; /* it is back, and stays */
    gone = 0;
    if (memory_fd < 0) {
        memory_fd = memfd_create("camera", MFD_CLOEXEC);
        if (ftruncate(memory_fd, BUFFERS * BUFFER_BYTES)) return -1;
        memory = NEXT(mmap)(NULL, BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    }
    camera_fd = pair[0];
    peer_fd = pair[1];
    opened++;
    live++;
    return camera_fd;
}

static int is_camera(const char *name) { return *path && name && !strcmp(name, path); }

#define LOCKED(expression) ({ pthread_mutex_lock(&lock); int code_ = (expression); \
                              int errno_ = errno; pthread_mutex_unlock(&lock); errno = errno_; code_; })
#define MODE(last) ({ va_list list; va_start(list, last); mode_t mode_ = va_arg(list, mode_t); va_end(list); mode_; })

int open(const char *name, int flags, ...)
{
    return is_camera(name) ? LOCKED(open_camera()) : NEXT(open)(name, flags, MODE(flags));
}

int open64(const char *name, int flags, ...)
{
    return is_camera(name) ? LOCKED(open_camera()) : NEXT(open64)(name, flags, MODE(flags));
}

int openat(int folder, const char *name, int flags, ...)
{
    return is_camera(name) ? LOCKED(open_camera()) : NEXT(openat)(folder, name, flags, MODE(flags));
}

int openat64(int folder, const char *name, int flags, ...)
{
    return is_camera(name) ? LOCKED(open_camera()) : NEXT(openat64)(folder, name, flags, MODE(flags));
}

static int close_camera(void)
{
    stop();
    num_buffers = 0;
    if (peer_fd >= 0) NEXT(close)(peer_fd);
    int code = NEXT(close)(camera_fd);
    camera_fd = peer_fd = -1;
    live--;
    return code;
}

int close(int fd) { return fd >= 0 && fd == camera_fd ? LOCKED(close_camera()) : NEXT(close)(fd); }

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (fd < 0 || fd != camera_fd) return NEXT(ioctl)(fd, request, argument);
    return LOCKED(answer(request & 0xFFFFFFFF, argument));
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    return NEXT(mmap)(address, size, protection, flags, fd >= 0 && fd == camera_fd ? memory_fd : fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return NEXT(mmap64)(address, size, protection, flags, fd >= 0 && fd == camera_fd ? memory_fd : fd, offset);
}

/* For programs that are only to see the camera: EMULATED_CAMERA=/dev/video0 v4l2-ctl --all */
__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("EMULATED_CAMERA");
    if (name) snprintf(path, sizeof path, "%s", name);
}

/* For tests. */

static struct { const char *name; long *value; } settings[] = {
    {"open errno", &open_errno}, {"busy", &busy}, {"on errno", &on_errno}, {"other size", &other_size},
    {"other rate", &other_rate}, {"no rate", &no_rate}, {"stall at", &stall_at}, {"unplug at", &unplug_at},
    {"away", &away}, {"gap at", &gap_at}, {"damaged at", &damaged_at}, {"cut at", &cut_at}, {"broken at", &broken_at},
    {"clock", &clock_kind}, {"padding", &padding}, {"capabilities", &capabilities}, {"no sizes", &no_sizes},
    {"stepwise", &stepwise}, {"interlaced", &interlaced}, {"granted", &granted}, {"zeros", &zeros},
    {"dequeue errno", &dequeue_errno}, {"pull at", &pull_at},
    {"opened", &opened}, {"live", &live}, {"misused", &misused},
};

static long *setting(const char *name)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (!strcmp(settings[i].name, name)) return settings[i].value;
    fprintf(stderr, "the emulator has no %s\n", name);
    abort();
}

long emulator_get(const char *name) { return LOCKED(*setting(name)); }
void emulator_set(const char *name, long value) { LOCKED((*setting(name) = value, 0)); }
void emulator_only(const char *codes) { snprintf(only, sizeof only, "%s", codes); }

void emulator_picture(const void *content, size_t size)
{
    pictures[num_pictures] = malloc(size);
    memcpy(pictures[num_pictures], content, size);
    picture_bytes[num_pictures++] = size;
}

void emulator_reset(const char *camera)
{
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) *settings[i].value = 0;
    cut_at = broken_at = damaged_at = -1;
    snprintf(path, sizeof path, "%s", camera);
    *only = 0;
    gone = 0;
    rate = 100;
    format.pixelformat = V4L2_PIX_FMT_YUYV;
    format.height = 96;
    format.width = 128;
    while (num_pictures) free(pictures[--num_pictures]);
}
