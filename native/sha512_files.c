/* SHA-512 of several files at once, each in a vector lane of one core, while they are copied or read back.
 *
 * A lane takes the next file as soon as its own has ended. Memory does not grow: the caller gives a buffer for every
 * lane. Nothing here is global, so threads may work side by side, each with a pass of its own. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sha512.h"

enum { BUFFER_BYTES = 64 << 10, PADDED_BYTES = BUFFER_BYTES + 2 * BLOCK, ALLOCATE_BYTES = 64 << 10, PAGES = 4096 };
enum { CACHESTAT = 451 };  /* the same number everywhere; C libraries do not know it yet */
enum { WRITE_BACK_BYTES = 16 << 20, COPY_BYTES = 256 << 10 };
enum { MOST_AHEAD = 4, AHEAD_BYTES = 256 << 10, AHEAD_ROOM = BLOCK + AHEAD_BYTES + 2 * BLOCK };
enum { NOT_DONE, DONE, NOT_OPENED, NOT_READ, NOT_WRITTEN };

/* A file to hash. Addresses are numbers of 64 bits, so that the layout is the same everywhere. */
struct file {
    uint64_t name;        /* in: its path below `from` or `into`; 0 if it has none */
    uint64_t memory;      /* in: where its bytes are, if they are in memory; else 0 */
    int64_t offset;       /* in: where in `source` they begin */
    int64_t size;         /* in: how many there are; of a file that is opened by its name, how many there should be */
    int64_t seconds;      /* in: its time of change, where it is written */
    int64_t nanoseconds;
    int64_t read;         /* out: how many bytes were read */
    int32_t outcome;      /* out: DONE, or what it failed in */
    int32_t error;        /* out: its errno */
    uint8_t digest[64];   /* out */
    int32_t descriptor;   /* private */
    int32_t private;
};

/* What one call does. */
struct pass {
    uint64_t buffer;      /* MOST_LANES * PADDED_BYTES */
    uint64_t done;        /* an int64_t, to which the bytes read are added as they are read */
    uint64_t stop;        /* an int32_t: where it becomes another than 0, the call returns at once */
    int32_t kind;         /* of the lanes: see `kinds` */
    int32_t source;       /* descriptor that is read at each file's offset; -1: files are in memory, or opened by name */
    int32_t from;         /* descriptor of the folder below which they are opened */
    int32_t into;         /* descriptor of the folder below which they are made; -1: they are not */
    int32_t write_back;   /* whether the disk shall begin with what was written */
    int32_t drop_cache;   /* whether files opened by name are taken out of the page cache before they are read */
    int32_t dropped;      /* out: whether all of them certainly were */
    int32_t ahead;        /* whether another thread reads and writes ahead of the lanes: for MOST_AHEAD large files at most */
};

typedef void compress_many(uint64_t *const states[], const uint8_t *const messages[], size_t count);

/* How lanes are filled: with more messages than `four` and `eight` are good for, the wider ones are used. */
static const struct kind {
    const char *name;
    int lanes, fewest;    /* as long as there are fewer messages, one after the other (by OpenSSL) is faster */
    compress_many *four, *eight;
} kinds[] = {
#if defined __x86_64__
    {"AVX-512", 8, 2, avx512vl_many, avx512_many},
    {"AVX2", 4, 3, avx2_many, NULL},
    {"AVX2, eight wide", 8, 8, avx2_many, avx2_wide_many},
#endif
    {"plain", 4, 4, plain_many, NULL},
    {"plain, eight wide", 8, 8, plain_many, plain_wide_many},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

struct lane {
    struct file *file;
    uint64_t state[8];
    uint8_t *buffer;
    const uint8_t *at;    /* what is not compressed yet */
    size_t left;
    int ended;            /* the file's last bytes are in the buffer, and padded */
    int in, out;
    int64_t begun;        /* how many bytes the disk was told to begin with */
    int64_t taken;        /* how many bytes came into the buffer */
    struct ahead *ahead;  /* who reads and writes for it; NULL: nobody else */
    uint8_t *next;        /* of it: the next piece, with room for a block before it */
    ssize_t ready;        /* how many bytes that has; NOTHING_YET, or -1 where the file failed */
};

/* A thread that reads and writes some files while another one hashes them. */
struct ahead {
    const struct pass *work;
    struct lane *lanes;
    int count, ends, open[MOST_AHEAD];
    uint8_t *room;
    pthread_t thread;
    pthread_mutex_t lock; /* of `ready`, `open` and `ends` */
    pthread_cond_t turned;
};
enum { NOTHING_YET = -2 };

static int is_supported(const struct kind *kind)
{
#if defined __x86_64__
    if (kind->four == avx512vl_many)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2");
    if (kind->four == avx2_many)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
#endif
    return kind->four == plain_many;
}

/* The name of a kind of lanes, `plain` ones included, which are slower than one message after the other; an empty text
 * where this machine has not got it, NULL behind the last. */
const char *sha512_kind(int kind)
{
    if (kind < 0 || kind >= KINDS)
        return NULL;
    return is_supported(&kinds[kind]) ? kinds[kind].name : "";
}

/* The kind that is fastest here; -1 if none is faster than one message after the other. */
int sha512_best(void)
{
    for (int kind = 0; kind < KINDS && kinds[kind].four != plain_many; kind++)
        if (is_supported(&kinds[kind]))
            return kind;
    return -1;
}

int sha512_lanes(int kind)
{
    return kinds[kind].lanes;
}

int sha512_fewest(int kind)
{
    return kinds[kind].fewest;
}

static void failed(struct file *file, int outcome)
{
    file->outcome = outcome;
    file->error = errno;
}

/* Whether no page of an open file is in memory for certain: POSIX_FADV_DONTNEED is a wish to the kernel. */
static int drop_cache(int descriptor, int64_t size)
{
    unsigned char pages[PAGES];
    long page_bytes = sysconf(_SC_PAGESIZE);
    uint64_t whole[2] = {0, 0}, found[5];  /* cachestat(2), since Linux 6.5: a third of what mincore(2) takes */
    int none = 1;

    if (posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) != 0)
        return 0;
    if (size == 0)
        return 1;
    if (syscall(CACHESTAT, descriptor, whole, found, 0) == 0)
        return found[0] == 0;
    uint8_t *mapped = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED)
        return 0;
    for (int64_t at = 0; none && at < size; at += PAGES * page_bytes) {
        int64_t length = size - at < PAGES * page_bytes ? size - at : PAGES * page_bytes;
        none = mincore(mapped + at, (size_t)length, pages) == 0;
        for (int64_t page = 0; none && page * page_bytes < length; page++)
            none = !(pages[page] & 1);
    }
    munmap(mapped, (size_t)size);
    return none;
}

/* Open a file by its name, never through a link; a pipe is not waited for, and refused. */
static void open_named(struct pass *pass, struct file *file, struct stat *status)
{
    const char *name = (const char *)(uintptr_t)file->name;

    do
        file->descriptor = openat(pass->from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    while (file->descriptor < 0 && errno == EINTR);
    if (file->descriptor < 0) {
        failed(file, NOT_OPENED);
        return;
    }
    if (fstat(file->descriptor, status) != 0 || !S_ISREG(status->st_mode)) {
        errno = EINVAL;
        failed(file, NOT_OPENED);
        return;
    }
    if (pass->drop_cache) {
        pass->dropped &= drop_cache(file->descriptor, status->st_size);
        posix_fadvise(file->descriptor, 0, 0, POSIX_FADV_WILLNEED);
    }
}

static int is_refusal(int error)
{
    return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP;
}

/* Make the file that is written. */
static int make(const struct pass *pass, struct lane *lane, mode_t mode)
{
    struct file *file = lane->file;
    const char *name = (const char *)(uintptr_t)file->name;
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;

    do
        lane->out = openat(pass->into, name, flags, mode);
    while (lane->out < 0 && errno == EINTR);
    if (lane->out < 0) {
        failed(file, NOT_OPENED);
        return -1;
    }
    return 0;
}

/* Take the blocks: a full disk is found now, and they lie together. */
static int allocate(struct lane *lane)
{
    if (lane->file->size < ALLOCATE_BYTES)
        return 0;
    do
        errno = posix_fallocate(lane->out, 0, lane->file->size);
    while (errno == EINTR);
    if (errno != 0 && !is_refusal(errno)) {
        failed(lane->file, NOT_WRITTEN);
        return -1;
    }
    return 0;
}

static ssize_t read_some(const struct pass *pass, const struct lane *lane, uint8_t *to, size_t room)
{
    const struct file *file = lane->file;
    int64_t left = file->size - file->read, at = file->read + (pass->source >= 0 ? file->offset : 0);
    ssize_t count;

    if (file->memory || pass->source >= 0)
        room = (uint64_t)left < room ? (size_t)left : room;
    if (room == 0)
        return 0;
    if (file->memory) {
        memcpy(to, (const uint8_t *)(uintptr_t)file->memory + file->read, room);
        return (ssize_t)room;
    }
    do
        count = pread(lane->in, to, room, at);
    while (count < 0 && errno == EINTR);
    if (count == 0 && pass->source >= 0) {  /* the zip ended before the member did */
        errno = EIO;
        return -1;
    }
    return count;
}

static int write_all(int out, const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t written = write(out, bytes, count);
        if (written < 0 && errno != EINTR)
            return -1;
        if (written > 0) {
            bytes += written;
            count -= (size_t)written;
        }
    }
    return 0;
}

/* Let the disk begin with what was written, if there is enough of it. */
static void write_back(const struct pass *pass, struct lane *lane, int64_t enough)
{
    int64_t count = lane->file->read - lane->begun;

    if (!pass->write_back || lane->out < 0 || count < enough)
        return;
    sync_file_range(lane->out, lane->begun, count, SYNC_FILE_RANGE_WRITE);
    lane->begun += count;
}

/* One bit, zeros, and the number of bits, to the end of a block (FIPS 180-4, 5.1.2). */
static size_t padded(uint8_t *end, size_t left, int64_t bytes)
{
    size_t room = BLOCK - (left + 17) % BLOCK;
    uint64_t bits[2] = {(uint64_t)bytes >> 61, (uint64_t)bytes << 3};

    room %= BLOCK;
    *end++ = 0x80;
    memset(end, 0, room);
    end += room;
    for (int i = 0; i < 16; i++)
        *end++ = (uint8_t)(bits[i / 8] >> (56 - 8 * (i % 8)));
    return room + 17;
}

/* Read the next piece of a lane's file, and write it; returns its bytes, or -1. */
static ssize_t pass_on(const struct pass *pass, struct lane *lane, uint8_t *to, size_t room)
{
    ssize_t count = read_some(pass, lane, to, room);

    if (count < 0) {
        failed(lane->file, NOT_READ);
        return -1;
    }
    if (lane->out >= 0 && write_all(lane->out, to, (size_t)count) != 0) {
        failed(lane->file, NOT_WRITTEN);
        return -1;
    }
    lane->file->read += count;
    write_back(pass, lane, WRITE_BACK_BYTES);
    __atomic_fetch_add((int64_t *)(uintptr_t)pass->done, count, __ATOMIC_RELAXED);
    return count;
}

/* A lane whose last piece was taken and whose file goes on, once there is one; NULL if there is nothing more to do. */
static struct lane *wait_for_room(struct ahead *ahead)
{
    for (;;) {
        int open = 0;
        for (int i = 0; i < ahead->count && !ahead->ends; i++) {
            open |= ahead->open[i];
            if (ahead->open[i] && ahead->lanes[i].ready == NOTHING_YET)
                return &ahead->lanes[i];
        }
        if (!open)
            return NULL;
        pthread_cond_wait(&ahead->turned, &ahead->lock);
    }
}

/* What the thread ahead does. */
static void *go_ahead(void *given)
{
    struct ahead *ahead = given;
    const int32_t *stop = (const int32_t *)(uintptr_t)ahead->work->stop;
    struct lane *lane;

    pthread_mutex_lock(&ahead->lock);
    while ((lane = wait_for_room(ahead))) {
        pthread_mutex_unlock(&ahead->lock);
        ssize_t count = -1;
        if (!__atomic_load_n(stop, __ATOMIC_RELAXED))
            count = pass_on(ahead->work, lane, lane->next + BLOCK, AHEAD_BYTES);
        pthread_mutex_lock(&ahead->lock);
        ahead->open[lane - ahead->lanes] = count >= 0 && lane->file->read < lane->file->size;
        lane->ready = count;
        pthread_cond_broadcast(&ahead->turned);
    }
    pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

/* Have some lanes' files read and written ahead; where that cannot be, the lanes do it themselves, as ever. */
static void begin_ahead(struct ahead *ahead)
{
    sigset_t all, before;

    ahead->room = malloc(2 * AHEAD_ROOM * (size_t)ahead->count);
    if (!ahead->room)
        return;
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_cond_init(&ahead->turned, NULL);
    for (int i = 0; i < ahead->count; i++) {
        ahead->lanes[i].next = ahead->room + 2 * i * AHEAD_ROOM;
        ahead->lanes[i].ready = NOTHING_YET;
        ahead->open[i] = ahead->lanes[i].file && ahead->lanes[i].file->size > 0;
    }
    sigfillset(&all);  /* signals are for the threads of the program */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&ahead->thread, NULL, go_ahead, ahead);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (int i = 0; error == 0 && i < ahead->count; i++)
        ahead->lanes[i].ahead = ahead;
    if (error != 0) {
        free(ahead->room);
        ahead->room = NULL;
    }
}

static void end_ahead(struct ahead *ahead)
{
    if (!ahead->room)
        return;
    pthread_mutex_lock(&ahead->lock);
    ahead->ends = 1;
    pthread_cond_broadcast(&ahead->turned);
    pthread_mutex_unlock(&ahead->lock);
    pthread_join(ahead->thread, NULL);
    pthread_cond_destroy(&ahead->turned);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead->room);
}

/* Take the piece that lies ready, behind what is left of the last one, and give back the room of that. */
static ssize_t take_ready(struct lane *lane)
{
    uint8_t *piece = lane->next + BLOCK - lane->left;
    int is_second = (lane->next - lane->ahead->room) / AHEAD_ROOM % 2;

    pthread_mutex_lock(&lane->ahead->lock);
    while (lane->ready == NOTHING_YET)
        pthread_cond_wait(&lane->ahead->turned, &lane->ahead->lock);
    ssize_t count = lane->ready;
    if (count >= 0) {
        memcpy(piece, lane->at, lane->left);
        lane->at = piece;
        lane->next += is_second ? -AHEAD_ROOM : AHEAD_ROOM;
        lane->ready = NOTHING_YET;
        pthread_cond_broadcast(&lane->ahead->turned);
    }
    pthread_mutex_unlock(&lane->ahead->lock);
    return count;
}

/* The next piece of a lane's file, behind what is left of the last one. */
static int fill(const struct pass *pass, struct lane *lane)
{
    struct file *file = lane->file;
    size_t room = BUFFER_BYTES - lane->left;
    ssize_t count;

    if (lane->ahead && lane->taken < file->size)
        count = take_ready(lane);
    else {
        memmove(lane->buffer, lane->at, lane->left);
        lane->at = lane->buffer;
        count = pass_on(pass, lane, lane->buffer + lane->left, room);
    }
    if (count < 0)
        return -1;
    lane->left += (size_t)count;
    lane->taken += count;
    if (file->memory || pass->source >= 0)
        lane->ended = lane->taken == file->size;
    else  /* one call less for each small file */
        lane->ended = count == 0 || ((size_t)count < room && lane->taken >= file->size);
    if (lane->ended)
        lane->left += padded((uint8_t *)lane->at + lane->left, lane->left, lane->taken);
    return 0;
}

/* Whether a call went well; times and modes are kept as far as the file system takes them, and are never a reason to
 * lose content. */
static int is_taken(int result)
{
    return result == 0 || is_refusal(errno) || errno == EPERM || errno == EACCES;
}

static int finish_written(const struct pass *pass, struct lane *lane)
{
    const struct file *file = lane->file;
    struct timespec time = {.tv_sec = (time_t)file->seconds, .tv_nsec = (long)file->nanoseconds};

    if (!is_taken(futimens(lane->out, (struct timespec[2]){time, time})))
        return -1;
    if (file->size >= ALLOCATE_BYTES)
        write_back(pass, lane, 1);
    return 0;
}

/* Let go of a lane's file; what it became stands in the file. */
static void leave(const struct pass *pass, struct lane *lane)
{
    struct file *file = lane->file;

    if (lane->ended && lane->left == 0) {
        file->outcome = DONE;
        for (int i = 0; i < 64; i++)
            file->digest[i] = (uint8_t)(lane->state[i / 8] >> (56 - 8 * (i % 8)));
        if (lane->out >= 0 && finish_written(pass, lane) != 0)
            failed(file, NOT_WRITTEN);
    }
    if (lane->out >= 0 && close(lane->out) != 0 && file->outcome == DONE && errno != EINTR)
        failed(file, NOT_WRITTEN);
    lane->out = -1;
    lane->file = NULL;
}

/* Give a lane a file, or return 0 if it cannot even be begun. */
static int begin(const struct pass *pass, struct lane *lane, struct file *file)
{
    lane->file = file;
    lane->at = lane->buffer;
    lane->left = 0;
    lane->ended = 0;
    lane->begun = 0;
    lane->taken = 0;
    lane->in = pass->source >= 0 ? pass->source : file->descriptor;
    memcpy(lane->state, START, sizeof START);
    return file->outcome == NOT_DONE && (pass->into < 0 || (make(pass, lane, 0666) == 0 && allocate(lane) == 0));
}

/* Compress as much as all lanes that have a file can take together. */
static void compress(const struct kind *kind, struct lane lanes[])
{
    uint64_t spare[8], *states[MOST_LANES];
    const uint8_t *messages[MOST_LANES];
    struct lane *busy[MOST_LANES];
    size_t count = BUFFER_BYTES;
    int many = 0;

    for (int i = 0; i < kind->lanes; i++)
        if (lanes[i].file) {
            busy[many] = &lanes[i];
            states[many] = lanes[i].state;
            messages[many++] = lanes[i].at;
            if (lanes[i].left / BLOCK < count)
                count = lanes[i].left / BLOCK;
        }
    if (many == 1)
        compress_one(states[0], messages[0], count);
    else {
        for (int i = many; i < MOST_LANES; i++) {
            states[i] = spare;
            messages[i] = messages[0];
        }
        memset(spare, 0, sizeof spare);
        (many > 4 ? kind->eight : kind->four)(states, messages, count);
    }
    for (int i = 0; i < many; i++) {
        busy[i]->at += count * BLOCK;
        busy[i]->left -= count * BLOCK;
    }
}

/* Let go of a lane's file. Files are read on, whatever one of them is; what cannot be copied ends the pass. */
static void let_go(const struct pass *pass, struct lane *lane)
{
    const struct file *file = lane->file;

    leave(pass, lane);
    if (pass->source >= 0 && file->outcome != DONE && file->error != EEXIST)
        *(int32_t *)(uintptr_t)pass->stop = 1;
}

/* See that each lane has a block to compress, as long as there are files; returns how many lanes have one. */
static int supply(const struct pass *pass, const struct kind *kind, struct lane lanes[], struct file **next,
    const struct file *end)
{
    const int32_t *stop = (const int32_t *)(uintptr_t)pass->stop;
    int busy = 0;

    for (int i = 0; i < kind->lanes; i++) {
        struct lane *lane = &lanes[i];
        while (!lane->file || lane->left < BLOCK) {
            int well = 1;
            if (!lane->file && *next == end)
                break;
            if (!lane->file)
                well = begin(pass, lane, (*next)++);
            else if (!lane->ended)
                well = fill(pass, lane) == 0;
            if (!well || (lane->ended && lane->left == 0))
                let_go(pass, lane);
            if (__atomic_load_n(stop, __ATOMIC_RELAXED))
                return 0;
        }
        busy += lane->file != NULL;
    }
    return busy;
}

/* Hash files, and write them if there is a folder to write to; what became of each stands in it. */
void sha512_files(struct pass *pass, struct file *files, int64_t count)
{
    const struct kind *kind = &kinds[pass->kind];
    struct file *next = files, *end = files + count;
    struct stat status;
    struct lane lanes[MOST_LANES];
    struct ahead ahead = {.work = pass, .lanes = lanes, .count = (int)count};

    for (int i = 0; i < kind->lanes; i++)
        lanes[i] = (struct lane){.buffer = (uint8_t *)(uintptr_t)pass->buffer + i * PADDED_BYTES, .in = -1, .out = -1};
    pass->dropped = 1;
    for (struct file *file = files; file < end; file++) {
        file->descriptor = -1;
        file->read = 0;
        file->outcome = NOT_DONE;
        if (pass->source < 0 && !file->memory)
            open_named(pass, file, &status);
    }
    if (pass->ahead && pass->source >= 0 && count > 0 && count <= MOST_AHEAD) {
        for (int i = 0; i < count; i++)
            if (!begin(pass, &lanes[i], next++))
                let_go(pass, &lanes[i]);
        begin_ahead(&ahead);
    }
    while (supply(pass, kind, lanes, &next, end))
        compress(kind, lanes);
    end_ahead(&ahead);
    for (int i = 0; i < kind->lanes; i++)
        if (lanes[i].file)
            leave(pass, &lanes[i]);
    for (struct file *file = files; file < end; file++)
        if (file->descriptor >= 0)
            close(file->descriptor);
}

/* The bytes, mode and times of an open file. */
static void copy_one(const struct pass *pass, struct lane *lane, const struct stat *status)
{
    struct file *file = lane->file;
    uint8_t *buffer = (uint8_t *)(uintptr_t)pass->buffer;
    const int32_t *stop = (const int32_t *)(uintptr_t)pass->stop;
    ssize_t count;

    if (make(pass, lane, (status->st_mode & 0777) | 0600) != 0)
        return;
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        do
            count = read(file->descriptor, buffer, COPY_BYTES);
        while (count < 0 && errno == EINTR);
        if (count < 0) {
            failed(file, NOT_READ);
            return;
        }
        if (write_all(lane->out, buffer, (size_t)count) != 0) {
            failed(file, NOT_WRITTEN);
            return;
        }
        file->read += count;
        write_back(pass, lane, WRITE_BACK_BYTES);
        if (count == 0 || (count < COPY_BYTES && file->read >= status->st_size)) {  /* one call less for a small file */
            if (is_taken(fchmod(lane->out, status->st_mode & 07777))
                && is_taken(futimens(lane->out, (struct timespec[2]){status->st_atim, status->st_mtim})))
                file->outcome = DONE;
            else
                failed(file, NOT_WRITTEN);
            if (file->read >= ALLOCATE_BYTES)
                write_back(pass, lane, 1);
            return;
        }
    }
}

/* Copy files below one folder to the same names below another, and hash nothing; the first that fails ends it. */
void copy_files(struct pass *pass, struct file *files, int64_t count)
{
    int32_t *stop = (int32_t *)(uintptr_t)pass->stop;
    struct stat status;

    for (struct file *file = files; file < files + count && !__atomic_load_n(stop, __ATOMIC_RELAXED); file++) {
        struct lane lane = {.file = file, .out = -1};
        open_named(pass, file, &status);
        if (file->outcome == NOT_DONE)
            copy_one(pass, &lane, &status);
        if (lane.out >= 0 && close(lane.out) != 0 && file->outcome == DONE && errno != EINTR)
            failed(file, NOT_WRITTEN);
        if (file->descriptor >= 0)
            close(file->descriptor);
        if (file->outcome > DONE)
            return;
    }
}
