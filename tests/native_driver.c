/* A libcuda whose functions hand their arguments to the test.

   The header is NVIDIA's, so a prototype that differs from the real one does not compile; and what
   a caller passes arrives as it would in the real library: in the width and the register of its
   type. Each argument is a number and, where the function writes a result through it, the size of
   what it points to. */

#include <cuda.h>
#include <stdint.h>

typedef struct {
    uint64_t value, size;
} Argument;
typedef int (*Handler)(const char *name, const Argument *arguments, int count);

static Handler handler;

void handle_by(Handler given) { handler = given; }

#define IN(x) {(uint64_t)(x), 0}
#define OUT(x) {(uint64_t)(x), sizeof *(x)}
#define HAND(name, ...)                                                                    \
    Argument given[] = {__VA_ARGS__};                                                      \
    return (CUresult)handler(name, given, sizeof given / sizeof *given)

CUresult cuInit(unsigned flags) { HAND("cuInit", IN(flags)); }

CUresult cuGetErrorString(CUresult code, const char **text) {
    HAND("cuGetErrorString", IN(code), OUT(text));
}

CUresult cuDriverGetVersion(int *version) { HAND("cuDriverGetVersion", OUT(version)); }

CUresult cuDeviceGetCount(int *count) { HAND("cuDeviceGetCount", OUT(count)); }

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    HAND("cuDeviceGetName", {(uint64_t)name, length}, IN(length), IN(device));
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    HAND("cuDeviceGetAttribute", OUT(value), IN(attribute), IN(device));
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    int *number = value; /* the ordinal of a device, the one attribute that is asked for */
    HAND("cuPointerGetAttribute", OUT(number), IN(attribute), IN(address));
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    HAND("cuDevicePrimaryCtxRetain", OUT(context), IN(device));
}

CUresult cuCtxGetCurrent(CUcontext *context) { HAND("cuCtxGetCurrent", OUT(context)); }

CUresult cuCtxPushCurrent(CUcontext context) { HAND("cuCtxPushCurrent_v2", IN(context)); }

CUresult cuCtxPopCurrent(CUcontext *context) { HAND("cuCtxPopCurrent_v2", OUT(context)); }

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    HAND("cuModuleLoadData", OUT(module), IN(image));
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    HAND("cuModuleGetFunction", OUT(function), IN(module), IN(name));
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                        unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                        CUstream stream, void **parameters, void **extra) {
    HAND("cuLaunchKernel", IN(function), IN(grid_x), IN(grid_y), IN(grid_z), IN(block_x),
         IN(block_y), IN(block_z), IN(shared), IN(stream), IN(parameters), IN(extra));
}

CUresult cuEventCreate(CUevent *event, unsigned flags) {
    HAND("cuEventCreate", OUT(event), IN(flags));
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    HAND("cuEventRecord", IN(event), IN(stream));
}

CUresult cuEventDestroy(CUevent event) { HAND("cuEventDestroy_v2", IN(event)); }

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
    HAND("cuStreamWaitEvent", IN(stream), IN(event), IN(flags));
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    HAND("cuStreamCreate", OUT(stream), IN(flags));
}

CUresult cuStreamSynchronize(CUstream stream) { HAND("cuStreamSynchronize", IN(stream)); }

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties) {
    HAND("cuMemPoolCreate", OUT(pool), IN(properties));
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    HAND("cuMemPoolSetAttribute", IN(pool), IN(attribute), IN(value));
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t size, CUmemoryPool pool,
                                 CUstream stream) {
    HAND("cuMemAllocFromPoolAsync", OUT(address), IN(size), IN(pool), IN(stream));
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    HAND("cuMemFreeAsync", IN(address), IN(stream));
}

CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    HAND("cuMemHostAlloc", OUT(address), IN(size), IN(flags));
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
    HAND("cuMemAlloc_v2", OUT(address), IN(size));
}

CUresult cuMemFree(CUdeviceptr address) { HAND("cuMemFree_v2", IN(address)); }

CUresult cuMemFreeHost(void *address) { HAND("cuMemFreeHost", IN(address)); }

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *source, size_t size, CUstream stream) {
    HAND("cuMemcpyHtoDAsync_v2", IN(to), IN(source), IN(size), IN(stream));
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr source, size_t size, CUstream stream) {
    HAND("cuMemcpyDtoHAsync_v2", IN(to), IN(source), IN(size), IN(stream));
}
