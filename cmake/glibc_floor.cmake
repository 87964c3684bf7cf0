# flashring_glibc_floor(target): the target asks for nothing newer than glibc 2.28, whatever the machine that builds it
# has.
#
# The linker binds a name to the newest version that this machine's glibc has of it, though the older one is there too
# and does the same: glibc 2.34 moved threads, dl and rt into libc.so.6 under new versions, 2.29 did so with exp, log
# and log2. So the target is linked against stand-ins first, which have the names of the old libraries and those
# functions in their old versions. Nothing of the stand-ins is loaded when the target is, for their files have other
# names. The loader looks for a function and a version in all libraries: it does not matter that it is not
# libpthread.so.0 which has exp.
set(floor_pthread __pthread_key_create pthread_condattr_setpshared pthread_create pthread_detach pthread_getspecific pthread_join
  pthread_key_create pthread_key_delete pthread_kill pthread_mutex_trylock pthread_mutexattr_destroy pthread_mutexattr_init
  pthread_mutexattr_setpshared pthread_mutexattr_settype pthread_once pthread_rwlock_destroy pthread_rwlock_init
  pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock pthread_rwlock_tryrdlock pthread_rwlock_trywrlock
  pthread_rwlock_unlock pthread_rwlock_wrlock pthread_rwlockattr_destroy pthread_rwlockattr_init pthread_rwlockattr_setpshared
  pthread_setspecific pthread_spin_destroy pthread_spin_init pthread_spin_lock pthread_spin_trylock pthread_spin_unlock
  sem_destroy sem_init sem_post sem_timedwait sem_trywait sem_wait shm_open shm_unlink exp log log2)
set(floor_dl dlclose dlerror dlopen dlsym dlvsym)
set(floor_versions_pthread "GLIBC_2.2.5 { ${floor_pthread}; };\n")
set(floor_versions_dl "GLIBC_2.2.5 { ${floor_dl}; };\nGLIBC_2.3.4 { dlmopen; };\n")
set(floor_soname_pthread libpthread.so.0)
set(floor_soname_dl libdl.so.2)
list(APPEND floor_dl dlmopen)

set(floor_folder ${CMAKE_BINARY_DIR}/glibc_floor)
foreach(library pthread dl)
  set(code "")
  foreach(name ${floor_${library}})
    string(APPEND code "void ${name}(void) {}\n")
  endforeach()
  file(CONFIGURE OUTPUT ${floor_folder}/${library}.c CONTENT "${code}" @ONLY)
  file(CONFIGURE OUTPUT ${floor_folder}/${library}.map CONTENT "${floor_versions_${library}}" @ONLY)
  add_library(floor_${library} SHARED ${floor_folder}/${library}.c)
  target_compile_options(floor_${library} PRIVATE -fno-builtin -w)
  target_link_options(floor_${library} PRIVATE -nostdlib
    -Wl,-soname,${floor_soname_${library}} -Wl,--version-script=${floor_folder}/${library}.map)
  set_target_properties(floor_${library} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${floor_folder} NO_SONAME ON)
endforeach()

function(flashring_glibc_floor target)
  foreach(library pthread dl)
    add_dependencies(${target} floor_${library})
    target_link_libraries(${target} PRIVATE $<TARGET_FILE:floor_${library}>)
  endforeach()
  # The stand-ins' folder stays out of the target. What nobody calls of the C++ library goes: it asks for arc4random of
  # 2.36.
  set_target_properties(${target} PROPERTIES SKIP_BUILD_RPATH ON)
  target_link_options(${target} PRIVATE -Wl,--gc-sections)
endfunction()
