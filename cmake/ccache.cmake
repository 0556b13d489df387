# ccache, where it is there: the precompiled header needs the sloppiness below; depend mode spares a run of the preprocessor.
find_program(GRAFT_CCACHE ccache)
if(GRAFT_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1 ${GRAFT_CCACHE})
  add_compile_options(-fpch-preprocess)
endif()
