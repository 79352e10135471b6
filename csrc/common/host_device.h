// Marks a function that host and device share.
#pragma once

#ifdef __CUDACC__
#define IQAZOO_HD __host__ __device__
#else
#define IQAZOO_HD
#endif
