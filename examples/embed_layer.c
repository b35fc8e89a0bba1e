/* A dense layer y = f(W x + b) around an inner loop of fastact, which works in place. */
#include <stddef.h>
#include <stdint.h>

typedef void (*inner_loop)(char **, intptr_t *, intptr_t *, void *);

void layer(inner_loop f, void *data, double parameter, const double *w, const double *b,
           const double *x, double *y, intptr_t rows, intptr_t columns)
{
    for (intptr_t i = 0; i < rows; i++) {
        double sum = b[i];
        for (intptr_t j = 0; j < columns; j++)
            sum += w[i * columns + j] * x[j];
        y[i] = sum;
    }
    /* the input, the parameter (a step of 0 repeats it), the output */
    char *arguments[3] = {(char *)y, (char *)&parameter, (char *)y};
    intptr_t steps[3] = {sizeof *y, 0, sizeof *y};
    f(arguments, &rows, steps, data);
}
