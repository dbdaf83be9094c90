/* The limit of debag, or of the built-in copier, on this machine: the same reading, hashing and writing, by a program that
 * judges nothing, knows the digests of nothing and says nothing. The lanes are those of `native/`.
 *
 *   limit SOURCE FOLDER THREADS SYNC   each line on its input is OFFSET SIZE NAME: a part of SOURCE that becomes FOLDER/NAME
 *
 * Where SOURCE is a folder, SOURCE/NAME becomes FOLDER/NAME, is flushed, taken out of the page cache, and hashed as it is
 * read back. */
#include "../native/sha512_files.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_FILES = 1 << 20, SOME_BYTES = 16 << 20, COPIED_BYTES = 32 << 20, OPEN_FILES = 32, LARGE_BYTES = 64 << 20 };

static struct file *files;
static int64_t count, next_file, most, done;
static int32_t stop, copies;
static struct pass shared;

/* Some files from folder to folder, and what came back from the disk. */
static void copy_and_read(struct pass *pass, struct file *some, int64_t many)
{
    int32_t from = pass->from, into = pass->into;

    copy_files(pass, some, many);
    if (syncfs(into) != 0)
        exit(1);
    *pass = (struct pass){
        .done = pass->done, .stop = pass->stop, .kind = pass->kind, .buffer = pass->buffer, .source = -1, .from = into,
        .into = -1, .drop_cache = 1,
    };
    for (int64_t i = 0; i < many; i += OPEN_FILES)
        sha512_files(pass, some + i, many - i < OPEN_FILES ? many - i : OPEN_FILES);
    pass->from = from, pass->into = into, pass->drop_cache = 0, pass->write_back = 1;
}

static void *work(void *unused)
{
    struct pass pass = shared;

    pass.buffer = (uintptr_t)malloc(MOST_LANES * PADDED_BYTES);
    for (;;) {
        static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
        int64_t first, bytes = 0;
        pthread_mutex_lock(&one);
        int64_t some = 0;
        for (first = next_file; next_file < count && some < most
             && (bytes < (copies ? COPIED_BYTES : SOME_BYTES) || some < 8); next_file++, some++)
            bytes += files[next_file].size;
        pthread_mutex_unlock(&one);
        if (some == 0)
            return unused;
        pass.ahead = bytes > LARGE_BYTES;
        (copies ? copy_and_read : sha512_files)(&pass, files + first, some);
    }
}

int main(int argc, char **argv)
{
    char name[4096];
    long long offset, size;
    pthread_t threads[64];

    if (argc != 5 || !(files = calloc(MOST_FILES, sizeof *files)))
        return 2;
    int many = atoi(argv[3]), source = open(argv[1], O_RDONLY), into = open(argv[2], O_RDONLY | O_DIRECTORY);
    shared = (struct pass){
        .done = (uintptr_t)&done, .stop = (uintptr_t)&stop, .source = source, .into = into, .write_back = argv[4][0] == '1',
        .kind = sha512_best() < 0 ? KINDS - 2 : sha512_best(),
    };
    if (source < 0 || many < 1 || many > 64)
        return 2;
    struct stat status;
    if (fstat(source, &status) == 0 && S_ISDIR(status.st_mode)) {
        copies = 1;
        shared.source = -1, shared.from = source;
    }
    while (count < MOST_FILES && scanf("%lld %lld %4095[^\n]", &offset, &size, name) == 3)
        files[count++] = (struct file){.offset = offset, .size = size, .name = (uintptr_t)strdup(name)};
    most = (count + many - 1) / many;  /* nobody is to be without */
    for (int i = 0; i < many; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < many; i++)
        pthread_join(threads[i], NULL);
    if (argv[4][0] == '1' && into >= 0 && syncfs(into) != 0)
        return 1;
    for (int64_t i = 0; i < count; i++)
        if (files[i].outcome != DONE)
            return 1;
    return 0;
}
