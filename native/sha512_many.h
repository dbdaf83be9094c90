/* SHA-512's compression of LANES independent messages at once, a message in each vector lane (FIPS 180-4, 6.4.2).
 *
 * A template, included once for each width and instruction set, with LANES, TARGET and NAME defined. It is plain C with
 * the vector extension that gcc and clang share: what is proved of it on one instruction set holds for the others. */

typedef uint64_t NAME(vector) __attribute__((vector_size(8 * LANES)));

/* Compress `count` blocks of each message. */
TARGET static void NAME(many)(uint64_t *const states[], const uint8_t *const messages[], size_t count)
{
    NAME(vector) s[8], w[16];

    for (int i = 0; i < 8; i++)
        for (int lane = 0; lane < LANES; lane++)
            s[i][lane] = states[lane][i];
    for (size_t at = 0; at < count * BLOCK; at += BLOCK) {
        for (int i = 0; i < 16; i++)
            for (int lane = 0; lane < LANES; lane++)
                w[i][lane] = big_endian(messages[lane] + at + 8 * i);
        COMPRESS(NAME(vector), s, w);
    }
    for (int i = 0; i < 8; i++)
        for (int lane = 0; lane < LANES; lane++)
            states[lane][i] = s[i][lane];
}

#undef LANES
#undef TARGET
#undef NAME
