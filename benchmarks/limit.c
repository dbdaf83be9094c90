/* The limit of debag and of a read-back on this machine: the same reading, hashing and writing, by a program that judges
 * nothing, knows the digests of nothing and says nothing. The lanes are those of `native/`.
 *
 *   limit SOURCE FOLDER THREADS SYNC   each line on its input is OFFSET SIZE NAME: a part of SOURCE that becomes FOLDER/NAME
 *
 * Where FOLDER is `-`, nothing is written. */
#include "../native/sha512_files.c"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_FILES = 1 << 20, SOME_BYTES = 16 << 20 };

static struct file *files;
static int64_t count, next_file, done;
static int32_t stop;
static struct pass shared;

static void *work(void *unused)
{
    struct pass pass = shared;

    pass.buffer = (uintptr_t)malloc(MOST_LANES * PADDED_BYTES);
    for (;;) {
        static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
        int64_t first, bytes = 0;
        pthread_mutex_lock(&one);
        for (first = next_file; next_file < count && (bytes < SOME_BYTES || next_file - first < 8); next_file++)
            bytes += files[next_file].size;
        int64_t some = next_file - first;
        pthread_mutex_unlock(&one);
        if (some == 0)
            return unused;
        sha512_files(&pass, files + first, some);
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
    while (count < MOST_FILES && scanf("%lld %lld %4095[^\n]", &offset, &size, name) == 3)
        files[count++] = (struct file){.offset = offset, .size = size, .name = (uintptr_t)strdup(name)};
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
